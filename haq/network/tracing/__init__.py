"""Tracing: the multiplications of a network, observed while it runs, without changing it."""
