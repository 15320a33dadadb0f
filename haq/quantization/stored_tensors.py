"""Shapes and types of the tensors in which quantizers are stored."""

from collections.abc import Mapping

from torch import Tensor

_ENDS = "two integers"
_SHAPES: dict[str, tuple[tuple[int, ...], bool, str]] = {
    ".input.scale": ((), True, "one float"),
    ".input.offset": ((), True, "one float"),
    ".input.zero_point": ((), False, "one integer"),
    ".input.range": ((2,), False, _ENDS),
    ".weight.range": ((2,), False, _ENDS),
    ".code_range": ((2,), False, _ENDS),
}
"""Shape, whether floats, and description of each kind of tensor, by the end of its name."""


def require_shapes(tensors: Mapping[str, Tensor]) -> None:
    """Check shape and type of the tensors of quantizers whose shape does not depend on the network.

    Args:
        tensors: Tensors by name, such as `LAYER.input.scale`; others are ignored.

    Raises:
        ValueError: A tensor has another shape or type; the message names it.

    Examples:
        >>> import torch
        >>> require_shapes({"conv.input.scale": torch.ones(2)})
        Traceback (most recent call last):
        ...
        ValueError: conv.input.scale is float32 of shape [2], not one float
    """
    for name, tensor in tensors.items():
        for end, (shape, is_float, description) in _SHAPES.items():
            if not name.endswith(end):
                continue
            if tuple(tensor.shape) != shape or tensor.is_floating_point() != is_float:
                dtype = str(tensor.dtype).removeprefix("torch.")
                raise ValueError(f"{name} is {dtype} of shape {list(tensor.shape)}, not {description}")


def misfit_text(error: Exception) -> str:
    """Describe an error of restoring quantizers in one line, without the names of Python's exceptions.

    Args:
        error: Error that names a missing tensor (KeyError) or says what is wrong.

    Returns:
        The text.

    Examples:
        >>> misfit_text(KeyError("conv.weight")), misfit_text(ValueError("scales must be above 0"))
        ('conv.weight is missing', 'scales must be above 0')
    """
    text = " ".join(str(error.args[0] if error.args else error).split())[:300]
    return f"{text} is missing" if isinstance(error, KeyError) else text or type(error).__name__
