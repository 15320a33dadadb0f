"""Networks as ONNX graphs with quantizers: exported once in float, then lowered for each policy in milliseconds."""

from haq.evaluation.engines.onnxruntime.engine import OnnxEngine
from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.extraction import make_template
from haq.evaluation.engines.onnxruntime.lowering import lower
from haq.evaluation.engines.onnxruntime.marking import export_marked
from haq.evaluation.engines.onnxruntime.sessions import open_session
from haq.evaluation.engines.onnxruntime.template import Template

__all__ = ["NotExportableError", "OnnxEngine", "Template", "export_marked", "lower", "make_template", "open_session"]
