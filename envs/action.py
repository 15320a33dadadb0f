"""Conversion between actions in [0, 1] and bits."""


def bits_of_action(action: float, *, min_bits: int, max_bits: int) -> int:
    """Convert an action to bits: equal parts of [0, 1] for every width (HAQ, CVPR 2019, section 3.2).

    round(min - 1/2 + action * (max - min + 1)), clipped to the range, which rounding can exceed at the ends.

    Args:
        action: Number in [0, 1].
        min_bits: Smallest width.
        max_bits: Largest width.

    Returns:
        Width from `min_bits` to `max_bits`.

    Example:
        >>> [bits_of_action(action, min_bits=2, max_bits=8) for action in (0.0, 0.14, 0.15, 1.0)]
        [2, 2, 3, 8]
    """
    bits = round(min_bits - 0.5 + action * (max_bits - min_bits + 1))
    return min(max(bits, min_bits), max_bits)


def action_of_bits(bits: int, *, min_bits: int, max_bits: int) -> float:
    """Return the middle of the interval of actions that are converted to these bits.

    Args:
        bits: Width from `min_bits` to `max_bits`.
        min_bits: Smallest width.
        max_bits: Largest width.

    Returns:
        Action in [0, 1].

    Example:
        >>> bits_of_action(action_of_bits(5, min_bits=2, max_bits=8), min_bits=2, max_bits=8)
        5
    """
    return (bits - min_bits + 0.5) / (max_bits - min_bits + 1)
