"""Search methods held against each other on one task."""
