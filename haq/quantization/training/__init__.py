"""Quantization-aware training: weights, scales and shifts are trained on the loss of the task."""
