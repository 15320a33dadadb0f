"""Instructions of layers that were not measured, fitted to those that were."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from scipy.optimize import nnls

from hardware_sim.cost import FloatArray
from hardware_sim.layer import Layer

FEATURES = ("macs", "outputs", "rows", "weights", "border_macs", "calls")
"""Names of the counts that instructions are proportional to, in the order of `features`."""


def features(layer: Layer) -> FloatArray:
    """Compute the counts that instructions are proportional to.

    Args:
        layer: A convolution, depthwise convolution or linear layer.

    Returns:
        Products; outputs, each of which is requantized; rows of kernels under all outputs, each of which is a loop;
        weights, each of which is unpacked; products of the outputs whose window crosses the border; and 1.
    """
    border = 1 - prod(_inner_share(layer, axis) for axis in (0, 1))
    outputs = layer.output_count
    return np.array([layer.macs, outputs, outputs * layer.kernel[0], layer.weights_read, border * layer.macs, 1.0])


def _inner_share(layer: Layer, axis: int) -> float:
    """Return the share of positions along an axis whose window lies inside the image."""
    size, out, stride = layer.input_size[axis], layer.output_size[axis], layer.stride[axis]
    window = layer.dilation[axis] * (layer.kernel[axis] - 1) + 1
    before = max((out - 1) * stride + window - size, 0) // 2
    starts = range(-before, -before + out * stride, stride)
    return sum(start >= 0 and start + window <= size for start in starts) / out


@dataclass(frozen=True, slots=True)
class InstructionFit:
    """Linear formula of the instructions of a kernel at one pair of widths.

    Attributes:
        coefficients: Instructions for each of `FEATURES`, not negative.
    """

    coefficients: FloatArray

    def predict(self, layer: Layer) -> float:
        """Compute the instructions of a layer.

        Args:
            layer: The layer, of the kind that was fitted.

        Returns:
            Instructions of one image.
        """
        return float(features(layer) @ self.coefficients)


def fit_instructions(layers: Sequence[Layer], instructions: Sequence[float]) -> InstructionFit:
    """Fit the formula by least squares of relative errors, with coefficients that are not negative.

    Args:
        layers: Measured layers of one kind.
        instructions: Their instructions at one pair of widths.

    Returns:
        The formula.
    """
    counts = np.array([features(layer) for layer in layers])
    relative = counts / np.asarray(instructions, dtype=np.float64)[:, None]
    # Columns differ by orders of magnitude; scaled to largest entries of 1 they suit the solver's tolerances.
    scale = np.maximum(np.abs(relative).max(axis=0), 1e-300)
    solution, _ = nnls(relative / scale, np.ones(len(layers)))
    return InstructionFit(solution / scale)


def leave_one_out_errors(layers: Sequence[Layer], instructions: Sequence[float]) -> FloatArray:
    """Predict every layer from a fit to the others.

    Args:
        layers: Measured layers of one kind.
        instructions: Their instructions at one pair of widths.

    Returns:
        Relative errors [layer], |predicted / measured - 1|.
    """
    errors = []
    for held, layer in enumerate(layers):
        rest = [at for at in range(len(layers)) if at != held]
        fit = fit_instructions([layers[at] for at in rest], [instructions[at] for at in rest])
        errors.append(abs(fit.predict(layer) / instructions[held] - 1))
    return np.array(errors)
