"""Flatbuffers for TensorFlow Lite Micro and LiteRT: int8 activations, weights as lookup tables, int4 or int8."""
