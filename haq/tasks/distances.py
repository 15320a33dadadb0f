"""Distances of a quantized network's outputs from the float network's."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from haq.execution.structures import Structure, rows


@dataclass(frozen=True, slots=True, eq=False)
class Distance:
    """Distance of outputs from reference outputs: scalars [], summed over the items of a batch.

    Attributes:
        divergence: At least 0 and differentiable. For distributions the Kullback-Leibler divergence from the reference
            to the outputs, in nats; for other outputs see `squared_distance`.
        error: Power of the difference of the outputs, float64, in squared units of the outputs.
        signal: Power of the reference outputs, float64, in the same unit. Error over signal, each summed over all
            items, is the relative output error, 1 / SQNR.
    """

    divergence: Tensor
    error: Tensor
    signal: Tensor


def distribution_distance(outputs: Tensor, reference: Tensor) -> Distance:
    """Compute the distance of logits as distributions over all entries of an item.

    The divergence is KL(reference || outputs). Powers are those of logits less each item's mean, since a constant that
    is added to all logits of an item changes no probability.

    Args:
        outputs: Logits [n, ...].
        reference: Logits of the reference, in the same shape.

    Returns:
        The distance, summed over the batch.
    """
    logits, wanted = outputs.float().flatten(1), reference.float().flatten(1)
    found, expected = F.log_softmax(logits, dim=1), F.log_softmax(wanted, dim=1)
    divergence = F.kl_div(found, expected, reduction="sum", log_target=True)
    return Distance(divergence, power(logits - wanted), power(wanted))


def sequence_distance(outputs: Tensor, reference: Tensor) -> Distance:
    """Compute the distance of logits that are a distribution at each position of a sequence.

    The divergence of an item is the mean over its positions. The powers are sums over positions.

    Args:
        outputs: Logits [n, positions, classes].
        reference: Logits of the reference, in the same shape.

    Returns:
        The distance, summed over the batch.
    """
    each = distribution_distance(outputs.flatten(0, 1), reference.flatten(0, 1))
    return Distance(each.divergence / outputs.shape[1], each.error, each.signal)


def squared_distance(outputs: Structure, reference: Structure) -> Distance:
    """Compute the distance of outputs of any structure from their squared differences.

    The divergence is half the squared difference: the Kullback-Leibler divergence of Gaussians of unit variance around
    the outputs.

    Args:
        outputs: Outputs for n items.
        reference: Reference outputs for the same items, in the same structure.

    Returns:
        The distance, summed over the batch.

    Examples:
        >>> distance = squared_distance((torch.tensor([[3.0]]),), (torch.tensor([[1.0]]),))
        >>> distance.divergence.item(), distance.error.item(), distance.signal.item()
        (2.0, 4.0, 1.0)
    """
    found, expected = rows(outputs), rows(reference)
    error = (found - expected).square().sum(dtype=torch.float64)
    return Distance(error.float() / 2, error, expected.square().sum(dtype=torch.float64))


def centred(logits: Tensor) -> Tensor:
    """Subtract the mean of each item from its logits; a single output stays as it is.

    Args:
        logits: Logits [n, classes].

    Returns:
        Logits with mean 0 in each row, [n, classes]; unchanged for one class.

    Examples:
        >>> from torch import tensor
        >>> centred(tensor([[1.0, 3.0], [6.0, 4.0]])).tolist()
        [[-1.0, 1.0], [1.0, -1.0]]
    """
    return logits - logits.mean(dim=1, keepdim=True) if logits.shape[1] > 1 else logits


def power(logits: Tensor) -> Tensor:
    """Sum the squares of centred logits.

    Args:
        logits: Logits [n, classes].

    Returns:
        The sum over all entries, float64 [].
    """
    return centred(logits).square().sum(dtype=torch.float64)
