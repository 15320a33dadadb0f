"""Distance between the raw outputs of two detectors."""

from collections.abc import Sequence

import torch
from torch import Tensor

from haq.tasks.detection.outputs import OutputPart
from haq.tasks.distances import Distance, squared_distance


def parts_distance(found: Sequence[OutputPart], reference: Sequence[OutputPart]) -> Distance:
    """Compute the distance of raw outputs, in which boxes, objectness and classes count alike.

    Args:
        found: Parts of the outputs for n images.
        reference: Parts of the reference outputs for the same images.

    Returns:
        The distance, summed over the batch.
    """
    return squared_distance(_values(found), _values(reference))


def _values(parts: Sequence[OutputPart]) -> tuple[Tensor, ...]:
    return tuple(torch.as_tensor(part.values) for part in parts)
