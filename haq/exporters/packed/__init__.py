"""Packed files: weights of 1 to 8 bits without padding between codes, in one safetensors file."""
