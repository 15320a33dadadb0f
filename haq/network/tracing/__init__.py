"""What a network multiplies, seen while it runs: nothing is attached to it."""
