"""Loss of quantizing each layer alone at each width, measured or estimated from one backward pass."""
