"""A network as an ONNX graph with quantizers: exported once in float, made anew for every policy in milliseconds."""

from haq.integer_graph.engine import OnnxEngine
from haq.integer_graph.errors import NotExportableError
from haq.integer_graph.lowering import lower
from haq.integer_graph.marking import export_marked
from haq.integer_graph.sessions import open_session
from haq.integer_graph.template import Template, make_template

__all__ = ["NotExportableError", "OnnxEngine", "Template", "export_marked", "lower", "make_template", "open_session"]
