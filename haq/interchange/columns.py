"""Names under which tables and JSON files give the layers and their bits."""

from typing import Final

from haq.errors import UserError
from haq.interchange.given_bits import GivenBits, ImportedBits, checked_bits
from hardware_sim.cost import Bits

LAYER: Final = ("layer", "name")
WEIGHTS: Final = ("w_bits", "weight_bits", "weights_bits", "weights_n_bits")
INPUTS: Final = ("a_bits", "input_bits", "activation_bits")
OUTPUTS: Final = ("output_bits", "activation_n_bits")
"""Bits of the layer's output, which the Model Compression Toolkit calls `activation_n_bits`."""
FLOATS: Final = ("", "-", "none", "null", "float", "fp32", "float32")
"""Texts that leave a tensor in float."""
MAX_DIGITS = 10


def read_bits(value: object, place: str) -> Bits:
    """Read a number of bits.

    Args:
        value: A number, its text, or one of `FLOATS`; None is float.
        place: Where it stands, for messages.

    Returns:
        The bits; None for float.

    Raises:
        UserError: The value is none of these.
    """
    text = "" if value is None else str(value).strip().lower() if isinstance(value, str | int) else "?"
    if text in FLOATS:
        return None
    if isinstance(value, bool) or not (text.isascii() and text.isdecimal() and len(text) < MAX_DIGITS):
        raise UserError(f"{place}: {str(value)[:20]!r} is no number of bits; write one, or float")
    return checked_bits(int(text), place)


def imported(format_name: str, rows: list[tuple[str, dict[str, Bits], str]]) -> ImportedBits:
    """Collect rows of a table.

    Args:
        format_name: Name of the format, for messages.
        rows: Name of the layer, bits by column, and place of each row.

    Returns:
        The bits by layer.
    """
    weights, inputs, outputs = (
        tuple(
            GivenBits(name, bits[column], f"{place}, {column}")
            for name, bits, place in rows
            for column in columns
            if column in bits
        )
        for columns in (WEIGHTS, INPUTS, OUTPUTS)
    )
    return ImportedBits(format_name, weights, inputs, outputs)
