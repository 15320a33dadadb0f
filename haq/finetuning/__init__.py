"""Quantization-aware fine-tuning: weights, scales and shifts learn from the loss of the task."""
