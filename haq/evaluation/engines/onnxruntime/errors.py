"""What goes wrong on the way to a graph, or while it runs."""

from haq.errors import UserError


class NotExportableError(UserError):
    """A network that has no ONNX graph, or none that runs; `reason` is one line: what stands in the way."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; use --engine torch")
        self.reason = reason
