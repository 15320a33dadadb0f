"""The sensitivity workflow: the loss of every layer at every width, kept in a folder."""
