"""QONNX files: `Quant` nodes of the true widths around weights and inputs, and their execution in qonnx."""
