"""Conversion between actions in [0, 1] and bits."""

import numpy as np
from numpy.typing import ArrayLike

from envs.choices import FloatArray, IntArray


def bits_of_actions(actions: ArrayLike, *, min_bits: int, max_bits: int) -> IntArray:
    """Convert actions to bits: equal parts of [0, 1] for every width (HAQ, CVPR 2019, section 3.2).

    round(min - 1/2 + action * (max - min + 1)), clipped to the range, which rounding can exceed at the ends.

    Args:
        actions: Numbers in [0, 1].
        min_bits: Smallest width.
        max_bits: Largest width.

    Returns:
        Widths from `min_bits` to `max_bits`, of the same shape.

    Raises:
        ValueError: An action is outside [0, 1].

    Example:
        >>> bits_of_actions([0.0, 0.14, 0.15, 1.0], min_bits=2, max_bits=8)
        array([2, 2, 3, 8])
    """
    actions = np.asarray(actions, dtype=np.float64)
    if not ((actions >= 0) & (actions <= 1)).all():
        raise ValueError(f"an action lies in [0, 1], got {actions}")
    bits = np.rint(min_bits - 0.5 + actions * (max_bits - min_bits + 1)).astype(np.int64)
    return np.minimum(np.maximum(bits, min_bits), max_bits)


def actions_of_bits(bits: ArrayLike, *, min_bits: int, max_bits: int) -> FloatArray:
    """Return the middle of the interval of actions that are converted to each width.

    Args:
        bits: Widths.
        min_bits: Smallest width of the range.
        max_bits: Largest width of the range.

    Returns:
        Actions in [0, 1], of the same shape; 0 or 1 for widths below or above the range.

    Example:
        >>> actions_of_bits([3, 4, 5, 8], min_bits=4, max_bits=5)
        array([0.  , 0.25, 0.75, 1.  ])
    """
    actions = (np.asarray(bits) - min_bits + 0.5) / (max_bits - min_bits + 1)
    return np.minimum(np.maximum(actions, 0.0), 1.0)
