"""Training a network with quantizers in place: weights, scales and shifts learn from the loss of the task."""
