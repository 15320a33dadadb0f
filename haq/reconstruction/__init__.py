"""Reconstruction: learn rounding, scales and biases of a policy so that outputs approach those of the float network.

It resembles training, but needs only calibration images, without labels. The result has the form of a search's: codes
with scales and biases.
"""
