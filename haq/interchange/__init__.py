"""Policies in files of other tools: a reader for each format, and names matched to the layers of a network."""
