"""From an action in [0, 1] to bits, and back."""


def bits_of_action(action: float, *, min_bits: int, max_bits: int) -> int:
    """The bits that an action asks for: equal parts of [0, 1] for every width (HAQ, CVPR 2019, section 3.2).

    round(min - 1/2 + action * (max - min + 1)), kept inside the range that rounding at the very ends would leave.

    >>> [bits_of_action(action, min_bits=2, max_bits=8) for action in (0.0, 0.14, 0.15, 1.0)]
    [2, 2, 3, 8]
    """
    bits = round(min_bits - 0.5 + action * (max_bits - min_bits + 1))
    return min(max(bits, min_bits), max_bits)


def action_of_bits(bits: int, *, min_bits: int, max_bits: int) -> float:
    """The middle of the actions that ask for these bits.

    >>> bits_of_action(action_of_bits(5, min_bits=2, max_bits=8), min_bits=2, max_bits=8)
    5
    """
    return (bits - min_bits + 0.5) / (max_bits - min_bits + 1)
