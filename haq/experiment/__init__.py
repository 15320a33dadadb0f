"""Preparation of workflows: a configuration becomes a problem, and the folder of a run becomes an artifact."""
