"""Fixed-point arithmetic of integer networks, as TensorFlow Lite's reference kernels define it for int8.

A real factor is an int32 multiplier of 31 fractional bits and a power of two (Jacob et al., CVPR 2018, section 2.2).
Products are rounded twice: to the high half, with halves upwards, then by the shift, with halves away from zero.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Wide = NDArray[np.int64]
ADDITION_SHIFT = 20
"""Left shift of the inputs of additions."""


class Multiplier(NamedTuple):
    """Real factor in fixed point: mantissa * 2^(exponent - 31).

    Attributes:
        mantissa: 0, or 2^30 to 2^31 - 1.
        exponent: Power of two.
    """

    mantissa: int
    exponent: int


def fixed_point(factor: float) -> Multiplier:
    """Convert a real factor to fixed point.

    Args:
        factor: Factor, at least 0.

    Returns:
        The multiplier, rounded to nearest with halves away from zero; (0, 0) for factors below 2^-32.

    Examples:
        >>> fixed_point(0.75)
        Multiplier(mantissa=1610612736, exponent=0)
    """
    if factor == 0:
        return Multiplier(0, 0)
    fraction, exponent = math.frexp(factor)
    mantissa = math.floor(fraction * 2**31 + 0.5)
    if mantissa == 2**31:
        mantissa, exponent = mantissa // 2, exponent + 1
    return Multiplier(0, 0) if exponent < -31 else Multiplier(mantissa, exponent)


class Multipliers(NamedTuple):
    """Real factors in fixed point, as `Multiplier`.

    Attributes:
        mantissa: Mantissas, of any shape.
        exponent: Exponents, of the same shape.
    """

    mantissa: Wide
    exponent: Wide


def fixed_points(factors: NDArray[np.float64]) -> Multipliers:
    """Convert real factors to fixed point.

    Args:
        factors: Factors of any shape, at least 0.

    Returns:
        Multipliers of the shape of `factors`.
    """
    parts = np.array([fixed_point(float(factor)) for factor in factors.flat], np.int64).reshape(*factors.shape, 2)
    return Multipliers(parts[..., 0], parts[..., 1])


def multiply(values: Wide, multiplier: Multiplier | Multipliers) -> Wide:
    """Multiply integers by a factor in fixed point.

    Args:
        values: Integers in the range of int32, of any shape.
        multiplier: Factor, or factors of a shape that broadcasts.

    Returns:
        Rounded products, of the shape of `values`.

    Examples:
        >>> multiply(np.array([2, -2, 5]), fixed_point(0.75)).tolist()
        [2, -1, 4]
    """
    left, right = np.maximum(multiplier.exponent, 0), np.maximum(-np.asarray(multiplier.exponent), 0)
    return rounding_shift(_doubling_high(values << left, multiplier.mantissa), right)


def rounding_shift(values: Wide, places: int | Wide) -> Wide:
    """Divide by a power of two, rounded to nearest with halves away from zero.

    Args:
        values: Integers of any shape.
        places: Exponents of the power of two, at least 0.

    Returns:
        The quotients.

    Examples:
        >>> rounding_shift(np.array([3, -3, 5]), 1).tolist()
        [2, -2, 3]
    """
    half = (np.int64(1) << places) >> 1
    return np.where(values < 0, -((-values + half) >> places), (values + half) >> places)


def _doubling_high(values: Wide, mantissa: int | Wide) -> Wide:
    """Return (2 * values * mantissa) / 2^32, rounded to nearest with halves upwards."""
    product = values.astype(np.int64) * mantissa
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    total = product + nudge
    return np.where(total < 0, -((-total) >> 31), total >> 31)  # the quotient is truncated towards zero
