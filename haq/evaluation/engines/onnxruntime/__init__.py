"""A network as an ONNX graph with quantizers: exported once in float, made anew for every policy in milliseconds."""

from haq.evaluation.engines.onnxruntime.engine import OnnxEngine
from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.lowering import lower
from haq.evaluation.engines.onnxruntime.marking import export_marked
from haq.evaluation.engines.onnxruntime.sessions import open_session
from haq.evaluation.engines.onnxruntime.template import Template, make_template

__all__ = ["NotExportableError", "OnnxEngine", "Template", "export_marked", "lower", "make_template", "open_session"]
