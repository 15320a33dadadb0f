"""Kinds of tensors that neither weights nor inputs may be of."""

import torch
from torch import Tensor


def unsupported_kind(tensor: Tensor) -> str:
    """The kind of a tensor that is not a dense one of real numbers; empty for one that is.

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
