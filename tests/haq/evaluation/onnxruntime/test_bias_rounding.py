"""Rounded biases leave the codes of sums that are far apart as they are."""

import numpy as np
import pytest

from haq.evaluation.engines.onnxruntime.bias_rounding import Accumulator, decisive_bias, nearest_bias
from haq.evaluation.engines.onnxruntime.template import Floats
from haq.quantization.linear import QuantizerParameters

SPACING = 64
STEPS = np.full(2000, 0.01)
SUMS = np.arange(-20, 21)[:, None] * SPACING


def quantizer(bits: int) -> QuantizerParameters:
    highest = (1 << bits) - 1
    return QuantizerParameters(bits=bits, signed=False, scale=1.3, zero_point=0, q_min=0, q_max=highest)


def codes(bias: Floats, output: QuantizerParameters) -> Floats:
    """Codes of all sums with a bias in steps, [sums, channels]."""
    return np.clip(np.rint((SUMS + bias) * STEPS / output.scale), output.q_min, output.q_max)


@pytest.mark.parametrize("bits", [1, 2])
def test_fewer_codes_change_than_with_the_nearest_step(bits: int) -> None:
    offset, output = np.random.default_rng(0).normal(0, 3, len(STEPS)), quantizer(bits)
    exact = codes(offset / STEPS, output)
    nearest = (codes(nearest_bias(offset, STEPS), output) != exact).sum()
    decisive = (codes(decisive_bias(offset, Accumulator(STEPS, SPACING, output)), output) != exact).sum()
    assert nearest > 10
    assert decisive == 0 if bits == 1 else decisive < nearest


def test_biases_far_from_all_borders_are_rounded_to_the_nearest_step() -> None:
    accumulator = Accumulator(STEPS[:2], SPACING, quantizer(1))  # the border lies at 65 steps
    assert decisive_bias(np.array([0.2047, -0.1552]), accumulator).tolist() == [20.0, -16.0]
