"""Integer widths and division of integer arrays, for devices that compute with integers only."""

import numpy as np
from numpy.typing import NDArray

from hardware_sim.cost import FloatArray, IntArray

INTEGER_BITS = np.arange(1, 9, dtype=np.int64)
"""Supported widths, along both bit axes."""


def along_widths(values: NDArray[np.generic]) -> FloatArray:
    """Extend a table of integer widths by float, with NaN.

    Args:
        values: Array [layer, w_bits, a_bits] with both bit axes along `INTEGER_BITS`.

    Returns:
        Array [layer, w_bits, a_bits] with both bit axes along `hardware_sim.cost.WIDTHS`.

    Example:
        >>> table = along_widths(np.ones((1, 8, 8)))
        >>> table.shape, float(table[0, 7, 7]), float(table[0, 7, 8])
        ((1, 9, 9), 1.0, nan)
    """
    return np.pad(values.astype(np.float64), ((0, 0), (0, 1), (0, 1)), constant_values=np.nan)


def ceil_div(value: IntArray, divisor: IntArray | int) -> IntArray:
    """Divide and round up.

    Args:
        value: Dividend.
        divisor: Divisor, broadcast against `value`.

    Returns:
        Quotient of the broadcast shape.
    """
    return np.asarray(-(-value // divisor))
