"""ONNX files of integer codes between QuantizeLinear, Clip and DequantizeLinear, and their execution in onnxruntime."""

from haq.exporters.onnx.exporter import OnnxExporter
from haq.exporters.onnx.runtime import OnnxRuntime

__all__ = ["OnnxExporter", "OnnxRuntime"]
