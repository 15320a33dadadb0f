"""YOLO detectors: building blocks, networks, and the meaning of the outputs of their heads."""
