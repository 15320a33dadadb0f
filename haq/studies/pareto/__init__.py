"""Searches over devices, objectives and budgets, and the fronts that they leave."""
