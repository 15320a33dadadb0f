"""AIMET: encodings of tensors as JSON beside a float ONNX graph without quantizers, for Qualcomm's tools and others."""
