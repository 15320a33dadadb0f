"""The training workflow: train the float network of a task and write its weights."""
