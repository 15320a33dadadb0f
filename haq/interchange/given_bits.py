"""Bits as a file of another tool gives them, by its own names of layers and tensors."""

from dataclasses import dataclass

from haq.errors import UserError
from hardware_sim.cost import Bits

MAX_BITS = 32
"""Widest integers of the formats; a policy has at most 8 bits."""


@dataclass(frozen=True, slots=True)
class GivenBits:
    """Bits of one tensor.

    Attributes:
        name: Name in the file: of a layer, a parameter or an activation tensor.
        bits: Its bits, of any number; None is float.
        place: Where the file says so, such as `line 3`.
    """

    name: str
    bits: Bits
    place: str


@dataclass(frozen=True, slots=True)
class ImportedBits:
    """Content of a file of bits.

    Attributes:
        format: Name of the format, for messages.
        weights: Bits of weights, by layer or parameter.
        inputs: Bits of the inputs of layers, by layer.
        outputs: Bits of the outputs of layers, by layer.
        tensors: Bits of activations, by tensor of a graph.
        undecided: Bits of tensors that are parameters or activations.
        may_have_others: Whether names that are no layers are usual, such as those of biases.
        notes: What the file says that a policy cannot hold.
    """

    format: str
    weights: tuple[GivenBits, ...] = ()
    inputs: tuple[GivenBits, ...] = ()
    outputs: tuple[GivenBits, ...] = ()
    tensors: tuple[GivenBits, ...] = ()
    undecided: tuple[GivenBits, ...] = ()
    may_have_others: bool = False
    notes: tuple[str, ...] = ()


def checked_bits(bits: int, place: str) -> int:
    """Check the width of an integer.

    Args:
        bits: Number of bits.
        place: Where the file says so.

    Returns:
        The number.

    Raises:
        UserError: It is not between 1 and `MAX_BITS`.
    """
    if not 1 <= bits <= MAX_BITS:
        raise UserError(f"{place}: integers of 1 to {MAX_BITS} bits expected, not of {str(bits)[:20]}")
    return bits
