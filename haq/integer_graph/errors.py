"""What goes wrong on the way to a graph."""


class NotExportableError(ValueError):
    """A network that has no ONNX graph, or none that runs. The message is one line: what stands in the way."""
