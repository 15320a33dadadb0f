"""Errors of exporting networks and running graphs."""

from haq.errors import UserError


class NotExportableError(UserError):
    """Error of a network that has no ONNX graph, or whose graph onnxruntime does not run.

    Args:
        reason: One line that says why.

    Attributes:
        reason: One line that says why.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"{reason}; use --engine torch")
        self.reason = reason
