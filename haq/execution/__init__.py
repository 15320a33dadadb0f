"""Execution of code that users wrote, and of work in other processes."""
