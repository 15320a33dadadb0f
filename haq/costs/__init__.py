"""What a network costs on a device: prices, budgets, simulations, measured devices."""
