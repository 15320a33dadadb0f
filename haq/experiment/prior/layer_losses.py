"""Losses of quantizing each layer alone, and the prior over pairs of bits that follows from them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from haq.quantization.range import MAX_BITS

FloatArray = NDArray[np.float64]
LossKind = Literal["divergence", "noise"]
"""KL divergence from the float network's outputs, or relative output error; see `haq.evaluation.protocols`."""


@dataclass(frozen=True, slots=True, eq=False)
class LayerLosses:
    """Losses of quantizing one part of one layer to one width while everything else stays in float.

    Attributes:
        losses: Losses [layer, part, bits - 1], as KL divergence in nats or as relative output error. The parts are
            weights and input.
        forward_images: Images that computing them took.
        warnings: Caveats, one line each.
    """

    losses: FloatArray
    forward_images: int
    warnings: tuple[str, ...] = ()


def prior_of_pairs(losses: FloatArray, decision_of_layer: Sequence[int]) -> FloatArray:
    """Add the losses of weights and input, and those of layers that share a decision.

    Args:
        losses: Losses [layer, part, bits - 1] of each part alone.
        decision_of_layer: Index of the decision that determines the bits of each layer.

    Returns:
        Expected loss [decision, w_bits - 1, a_bits - 1] of each pair of bits, as `agents.space.SearchSpace` takes it.

    >>> prior_of_pairs(np.arange(16.0).reshape(1, 2, 8), [0])[0, 0, :3]
    array([ 8.,  9., 10.])
    """
    pairs = losses[:, 0, :, None] + losses[:, 1, None, :]
    summed = np.zeros((max(decision_of_layer) + 1, MAX_BITS, MAX_BITS))
    np.add.at(summed, list(decision_of_layer), pairs)
    return summed
