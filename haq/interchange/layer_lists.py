"""Bits by layer in JSON: a list of layers, or an object by layer.

{"layers": [{"name": "conv1", "w_bits": 4, "a_bits": 8}]}
{"conv1": {"weights_n_bits": 4, "activation_n_bits": 8}}
"""

from collections.abc import Iterator
from typing import Any

from haq.errors import UserError
from haq.interchange.columns import INPUTS, LAYER, OUTPUTS, WEIGHTS, imported, read_bits
from haq.interchange.document import MAX_ENTRIES
from haq.interchange.given_bits import ImportedBits
from hardware_sim.cost import Bits

_FORM = '{"conv1": {"w_bits": 4, "a_bits": 8}}'


def read_layer_list(document: Any) -> ImportedBits:
    """Read the bits in a list of layers, or in an object by layer.

    Args:
        document: JSON values of the file.

    Returns:
        Bits by layer.

    Raises:
        UserError: The document has another form; the message names the place.
    """
    inner = document.get("layers", document) if isinstance(document, dict) else document
    if not isinstance(inner, dict | list) or not inner:
        raise UserError(f"layers with their bits expected, such as {_FORM}")
    if len(inner) > MAX_ENTRIES:
        raise UserError(f"more than {MAX_ENTRIES} layers")
    rows: list[tuple[str, dict[str, Bits], str]] = []
    for name, values, place in _entries(inner):
        bits: dict[str, Bits] = {
            column: read_bits(values[column], f"{place}.{column}")
            for column in (*WEIGHTS, *INPUTS, *OUTPUTS)
            if column in values
        }
        if not bits:
            raise UserError(f"{place}: w_bits or a_bits expected")
        rows.append((name, bits, place))
    return imported("JSON", rows)


def _entries(inner: dict[str, Any] | list[Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield name, values and place of each layer."""
    for key, values in inner.items() if isinstance(inner, dict) else enumerate(inner):
        place = str(key)[:100] if isinstance(inner, dict) else f"layers.{key}"
        if not isinstance(values, dict):
            raise UserError(f"{place}: an object expected, such as {_FORM}")
        name = key if isinstance(inner, dict) else next((values[each] for each in LAYER if each in values), None)
        if not isinstance(name, str):
            raise UserError(f"{place}: the name of a layer expected")
        yield name, values, place
