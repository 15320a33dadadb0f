"""Grids in which the tensors of integer networks are stored."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from haq.exporters.integer.network import Codes
from haq.exporters.integer.reading.functions import Function
from haq.quantization.linear import QuantizerParameters

STORED_LOWER = 128
"""Difference between the codes of an unsigned grid of 8 bits and the stored ones."""
WHOLE_BITS = 8
"""Bits of grids that have all codes of int8."""
ALL_CODES = np.arange(-128, 128)
"""All codes that an input of a table may have."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Grid of stored codes: value = (code - zero_point) * scale.

    Attributes:
        scale: Step size, exact in float32.
        zero_point: Code of zero.
        q_min: Lowest code.
        q_max: Highest code.
    """

    scale: float
    zero_point: int
    q_min: int
    q_max: int

    @property
    def is_whole(self) -> bool:
        """Whether the grid has all 256 codes."""
        return self.q_max - self.q_min == ALL_CODES.size - 1

    def codes(self, values: NDArray[np.floating]) -> NDArray[np.int64]:
        """Quantize values: divide in their own precision, round to nearest with halves to even, add the zero point.

        Args:
            values: Values of any shape.

        Returns:
            Codes.
        """
        codes = np.rint(values / values.dtype.type(self.scale)) + self.zero_point
        return np.asarray(np.clip(codes, self.q_min, self.q_max), np.int64)

    def bounds(self, function: Function) -> tuple[int, int]:
        """Return the lowest and highest code within the bounds of a clip.

        Args:
            function: The clip.

        Returns:
            The two codes.
        """
        low, high = function.bounds or (-np.inf, np.inf)
        found = self.codes(np.array([low, high], np.float32))
        return int(found[0]), int(found[1])

    def table(self, function: Function, output: "Grid") -> Codes:
        """Tabulate a function from codes of this grid to codes of another.

        Args:
            function: Function of single values.
            output: Grid of the results.

        Returns:
            Output codes for the input codes -128 to 127, int8 [256]. Codes outside of this grid are not read.
        """
        inside = np.clip(ALL_CODES, self.q_min, self.q_max)
        values = function.apply(np.float64(self.scale) * (inside - self.zero_point))
        return output.codes(np.nan_to_num(values)).astype(np.int8)


def stored_grid(quantizer: QuantizerParameters) -> Grid:
    """Return the grid in which the codes of a quantizer are stored as int8.

    Args:
        quantizer: Quantizer of an activation.

    Returns:
        Its own grid; unsigned grids of 8 bits are lower by 128.

    Examples:
        >>> stored_grid(QuantizerParameters(bits=8, signed=False, scale=0.5, zero_point=0, q_min=0, q_max=255))
        Grid(scale=0.5, zero_point=-128, q_min=-128, q_max=127)
    """
    lower = STORED_LOWER if quantizer.q_max > 127 else 0
    return Grid(quantizer.scale, quantizer.zero_point - lower, quantizer.q_min - lower, quantizer.q_max - lower)
