"""Reconstruction: a policy's rounding, scales and biases learn to give back what the float network answers.

After training, from calibration images without labels. What comes of it is what a search keeps of a policy, codes with
scales and biases, so that whatever reads the quantizers of a run can run it.
"""
