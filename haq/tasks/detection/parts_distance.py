"""Distance between the raw outputs of two detectors."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from haq.tasks.detection.outputs import OutputPart, PartKind
from haq.tasks.distances import Distance


def parts_distance(found: Sequence[OutputPart], reference: Sequence[OutputPart]) -> Distance:
    """Compute the distance of raw outputs, weighted by the reference's probability of an object at each position.

    The divergence is the Kullback-Leibler divergence of the probabilities of objectness and classes, each a Bernoulli
    distribution, and half the squared difference of raw coordinates. Coordinates and classes are weighted by the
    reference's probability of an object; otherwise all positions on the background would count like those on objects.
    The error is twice the divergence, and the signal the power of `weighted_values`. Among several distances this one
    ranked policies best (results/detection_rewards.md).

    Args:
        found: Parts of the outputs for n images.
        reference: Parts of the reference outputs for the same images.

    Returns:
        The distance, summed over the batch.
    """
    weights = list(object_probabilities(reference))
    parts = zip(found, reference, weights, strict=True)
    divergence = torch.stack([_divergence(*each).sum() for each in parts]).sum()
    signal = weighted_values(reference, weights).square().sum(dtype=torch.float64)
    return Distance(divergence.float(), 2 * divergence.detach(), signal)


def weighted_values(parts: Sequence[OutputPart], weights: Sequence[Tensor]) -> Tensor:
    """Return the values whose squared differences are, to second order, twice the divergence.

    Args:
        parts: Parts of the outputs for n images.
        weights: Weights [n, positions, 1] of each part.

    Returns:
        Raw coordinates, and logits times the standard deviations of their Bernoulli distributions, which count as
        constant; all times the roots of their weights, float32 [n, values].
    """
    values = []
    for part, weight in zip(parts, weights, strict=True):
        raw = part.values.float()
        probability = raw.detach().sigmoid()
        scale = weight if part.kind == "box" else weight * probability * (1 - probability)
        values.append((scale.sqrt() * raw).flatten(1))
    return torch.cat(values, dim=1)


def object_probabilities(parts: Sequence[OutputPart]) -> Iterator[Tensor]:
    """Iterate over the weights of parts: the probability of an object at each position, or of the likeliest class.

    Args:
        parts: Parts of the outputs for n images. Those of a head follow one another; a head may have no objectness.

    Yields:
        Weights [n, positions, 1] of each part, without gradient; those of objectness are 1.
    """
    for _, head in groupby(_with_heads(parts), key=lambda each: each[0]):
        members = [part for _, part in head]
        logits = [part.values for part in members if part.kind == "objectness"] or [
            part.values for part in members if part.kind == "class"
        ]
        with torch.no_grad():
            probability = logits[0].float().sigmoid().amax(dim=2, keepdim=True)
        for part in members:
            yield torch.ones_like(probability) if part.kind == "objectness" else probability


def _with_heads(parts: Sequence[OutputPart]) -> Iterator[tuple[int, OutputPart]]:
    """Yield the parts with the number of their head: a new head begins where a kind occurs again."""
    kinds: set[PartKind] = set()
    number = 0
    for part in parts:
        if part.kind in kinds:
            number, kinds = number + 1, set()
        kinds.add(part.kind)
        yield number, part


def _divergence(found: OutputPart, reference: OutputPart, weight: Tensor) -> Tensor:
    ours, theirs = found.values.double(), reference.values.double()
    if reference.kind == "box":
        return weight * (ours - theirs).square() / 2
    probability = theirs.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(theirs, probability, reduction="none")
    lost = F.binary_cross_entropy_with_logits(ours, probability, reduction="none") - entropy
    return weight * lost.clamp(min=0)  # a difference of equal numbers is not exactly 0
