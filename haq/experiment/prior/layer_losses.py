"""What every width of every layer loses alone, and what that lets expect of pairs of bits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haq.quantization.range import MAX_BITS

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class LayerLosses:
    """What every change alone loses, measured or to be expected."""

    losses: FloatArray
    """[layer, part, bits - 1], in nats or in parts of the outputs' power; the parts are weights and input."""
    forward_images: int
    """What it cost."""
    warnings: tuple[str, ...] = ()
    """What to know of them, a line each."""


def prior(losses: FloatArray, decision_of_layer: Sequence[int]) -> FloatArray:
    """The loss [decision, w_bits, a_bits] to expect of every pair of bits, from losses [layer, part, bits - 1].

    The losses of weights and input are added, and those of tied layers: what `agents.space.SearchSpace.prior` takes.

    >>> prior(np.arange(16.0).reshape(1, 2, 8), [0])[0, 0, :3]
    array([ 8.,  9., 10.])
    """
    pairs = losses[:, 0, :, None] + losses[:, 1, None, :]
    summed = np.zeros((max(decision_of_layer) + 1, MAX_BITS, MAX_BITS))
    np.add.at(summed, list(decision_of_layer), pairs)
    return summed
