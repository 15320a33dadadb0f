"""Detectors of torchvision, which here return the raw outputs of their heads."""
