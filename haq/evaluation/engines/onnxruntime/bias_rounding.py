"""Rounding of biases to whole steps of an accumulator."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haq.evaluation.engines.onnxruntime.template import Floats
from haq.quantization.linear import QuantizerParameters


@dataclass(frozen=True, slots=True, eq=False)
class Accumulator:
    """Accumulator of a layer whose output is quantized: value = sum * step.

    Attributes:
        steps: Step of each channel, [channels], above 0.
        spacing: Sums of products are multiples of it.
        output: Quantizer of the output.
    """

    steps: Floats
    spacing: int
    output: QuantizerParameters


def nearest_bias(offset: Floats, steps: NDArray[np.floating]) -> Floats:
    """Round biases to the nearest whole step.

    Args:
        offset: Biases, [channels].
        steps: Steps of the accumulator, [channels].

    Returns:
        Whole numbers of steps, [channels].
    """
    rounded: Floats = np.rint(offset / steps)
    return rounded


def decisive_bias(offset: Floats, accumulator: Accumulator) -> Floats:
    """Round biases up or down, so that the fewest sums get another output code than with the exact bias.

    Sums of few bits have few values. With weights of 1 bit they are far apart, and many positions of an image have the
    same one: rounding a bias to the nearest step may move all of them across the border between two codes.

    Args:
        offset: Biases, [channels].
        accumulator: Accumulator of the layer.

    Returns:
        Whole numbers of steps, [channels]; the nearest of those that move equally many sums.

    Examples:
        Sums are multiples of 64, and the border between the codes lies at 9.6 steps. The sum 0 with the bias 9.7 lies
        above it, with 9 below:

        >>> output = QuantizerParameters(bits=1, signed=False, scale=19.2, zero_point=0, q_min=0, q_max=1)
        >>> decisive_bias(np.array([9.7, 9.55]), Accumulator(np.ones(2), 64, output)).tolist()
        [10.0, 9.0]
    """
    exact = offset / accumulator.steps
    codes = np.arange(accumulator.output.q_min + 1, accumulator.output.q_max + 1) - accumulator.output.zero_point
    borders = (codes - 0.5) * accumulator.output.scale / accumulator.steps[:, None]
    sums = np.rint((borders - exact[:, None]) / accumulator.spacing) * accumulator.spacing
    options = np.stack([np.rint(exact), np.floor(exact), np.ceil(exact)])
    side = np.sign(sums + exact[:, None] - borders)
    moved = (np.sign(sums + options[..., None] - borders) != side).sum(axis=-1)
    chosen: Floats = np.take_along_axis(options, moved.argmin(axis=0)[None], axis=0)[0]
    return chosen
