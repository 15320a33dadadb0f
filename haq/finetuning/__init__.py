"""Quantization-aware fine-tuning: gradient descent on weights, scales and shifts with the loss of the task."""
