"""Distances of a quantized network's outputs from the float network's."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from haq.execution.structures import Structure, rows


@dataclass(frozen=True, slots=True, eq=False)
class Distance:
    """How far outputs are from reference outputs; scalars, summed over the items of a batch.

    Attributes:
        divergence: Differentiable, at least 0; the Kullback-Leibler divergence (nats) where outputs are distributions.
        error: Power of the difference of the outputs, float64.
        signal: Power of the reference outputs, float64. Error over signal, both over all items, is the relative output
            error, 1 / SQNR.
    """

    divergence: Tensor
    error: Tensor
    signal: Tensor


def distribution_distance(outputs: Tensor, reference: Tensor) -> Distance:
    """Compare logits [n, ...] as distributions over all entries of an item.

    The divergence is KL(reference || outputs). Powers are those of logits less each item's mean, since a constant that
    is added to all logits of an item changes no probability.
    """
    logits, wanted = outputs.float().flatten(1), reference.float().flatten(1)
    ours, theirs = F.log_softmax(logits, dim=1), F.log_softmax(wanted, dim=1)
    divergence = F.kl_div(ours, theirs, reduction="sum", log_target=True)
    return Distance(divergence, power(logits - wanted), power(wanted))


def squared_distance(outputs: Structure, reference: Structure) -> Distance:
    """Compare outputs of any structure by their squared differences.

    The divergence is half the squared difference: the Kullback-Leibler divergence of Gaussians of unit variance around
    the outputs.

    >>> distance = squared_distance((torch.tensor([[3.0]]),), (torch.tensor([[1.0]]),))
    >>> distance.divergence.item(), distance.error.item(), distance.signal.item()
    (2.0, 4.0, 1.0)
    """
    ours, theirs = rows(outputs), rows(reference)
    error = (ours - theirs).square().sum(dtype=torch.float64)
    return Distance(error.float() / 2, error, theirs.square().sum(dtype=torch.float64))


def centred(logits: Tensor) -> Tensor:
    """Subtract from logits [n, classes] each item's mean; a single output stays as it is.

    >>> from torch import tensor
    >>> centred(tensor([[1.0, 3.0], [6.0, 4.0]])).tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    return logits - logits.mean(dim=1, keepdim=True) if logits.shape[1] > 1 else logits


def power(logits: Tensor) -> Tensor:
    """Sum the squares of centred logits [n, classes]; a float64 scalar."""
    return centred(logits).square().sum(dtype=torch.float64)
