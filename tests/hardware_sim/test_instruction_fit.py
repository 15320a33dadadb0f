"""Counts that instructions are proportional to, and their fit, by hand."""

import numpy as np
import pytest

from hardware_sim.instruction_fit import features, fit_instructions, leave_one_out_errors
from hardware_sim.layer import Layer


def conv(size: int, out: int, **settings: object) -> Layer:
    values = {"kernel": (3, 3), "input_size": (size, size), "output_size": (out, out), **settings}
    return Layer(name="c", kind="conv", c_in=2, c_out=3, **values)  # type: ignore[arg-type]


def test_features_of_a_padded_convolution() -> None:
    # Of 5 positions along an axis 3 have their window inside; 25 outputs of 3 channels, kernels of 3 rows.
    expected = [25 * 54, 75, 75 * 3, 54, 25 * 54 * 16 / 25, 1]
    np.testing.assert_allclose(features(conv(5, 5)), expected)


@pytest.mark.parametrize(
    ("layer", "inside"),
    [
        (conv(5, 3), 1),  # without padding
        (conv(5, 3, stride=(2, 2)), (1 / 3) ** 2),  # windows begin at -1, 1 and 3
        (conv(6, 3, stride=(2, 2)), (2 / 3) ** 2),  # padded at the end alone: 0, 2 and 4
        (conv(7, 7, dilation=(2, 2)), (3 / 7) ** 2),  # windows of 5
        (conv(5, 5, kernel=(1, 3)), 3 / 5),
        (Layer(name="f", kind="linear", c_in=7, c_out=2), 1),
    ],
)
def test_products_at_the_border_are_those_whose_window_crosses_it(layer: Layer, inside: float) -> None:
    assert features(layer)[4] == pytest.approx((1 - inside) * layer.macs)


def test_fit_is_of_relative_errors() -> None:
    one = conv(5, 5)
    # p minimises (p / 100 - 1)^2 + (p / 400 - 1)^2.
    least = (1 / 100 + 1 / 400) / (1 / 100**2 + 1 / 400**2)
    fit = fit_instructions([one, one], [100.0, 400.0])
    assert fit.predict(one) == pytest.approx(least)
    assert (fit.coefficients >= 0).all()


def test_instructions_that_follow_the_formula_are_predicted() -> None:
    layers = [conv(size, size, kernel=(kernel, kernel)) for size in (4, 7, 12, 20) for kernel in (1, 3, 5)]
    instructions = [2.0 * layer.macs + 7.0 * layer.output_count for layer in layers]
    fit = fit_instructions(layers, instructions)
    other = conv(9, 9)
    assert fit.predict(other) == pytest.approx(2.0 * other.macs + 7.0 * other.output_count, rel=1e-6)


def test_errors_of_layers_that_were_left_out() -> None:
    one = conv(5, 5)
    # From 100 and 200 the fit is 120, from 100 and 100 it is 100.
    assert leave_one_out_errors([one] * 3, [100.0, 100.0, 200.0]) == pytest.approx([0.2, 0.2, 0.5])
