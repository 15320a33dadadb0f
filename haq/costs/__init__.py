"""Costs of a network on a device: prices, budgets, simulations and measured devices."""
