"""How much of the outputs is noise: what quantization adds, beside the float outputs themselves."""

import torch
from torch import Tensor


def centred(logits: Tensor) -> Tensor:
    """Logits [n, classes] less each image's mean: what moves all of an image's logits says nothing.

    >>> from torch import tensor
    >>> centred(tensor([[1.0, 3.0], [6.0, 4.0]])).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    return logits - logits.mean(dim=1, keepdim=True) if logits.shape[1] > 1 else logits


def power(logits: Tensor) -> float:
    """Sum of the squares of centred logits [n, classes]."""
    return float(centred(logits).square().sum(dtype=torch.float64))
