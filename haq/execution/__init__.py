"""Execution of users' code, and of work in other processes."""
