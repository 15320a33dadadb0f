"""Comparison of search methods on one task."""
