"""Reading of an ONNX graph as steps whose tensors are to be stored in codes."""

from haq.exporters.integer.reading.graph import read_steps

__all__ = ["read_steps"]
