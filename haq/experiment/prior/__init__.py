"""What each layer loses at each width: measured layer by layer, or estimated from one backward pass."""
