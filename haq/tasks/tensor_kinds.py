"""Kinds of tensors that are not supported as weights or inputs."""

import torch
from torch import Tensor


def unsupported_kind(tensor: Tensor) -> str:
    """Return the kind of a tensor that is not a dense tensor of real numbers.

    Args:
        tensor: Tensor of any kind.

    Returns:
        Adjective for messages; empty for a dense tensor of real numbers.

    Examples:
        >>> unsupported_kind(torch.zeros(2)), unsupported_kind(torch.zeros(2, device="meta"))
        ('', 'without values')
    """
    kinds = {
        "quantized": tensor.is_quantized,
        "nested": tensor.is_nested,
        "sparse": tensor.layout != torch.strided,
        "complex": tensor.is_complex(),
        "without values": tensor.is_meta,
    }
    return next((kind for kind, is_so in kinds.items() if is_so), "")
