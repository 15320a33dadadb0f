"""Reading of a policy from a file of another tool, whose format is recognized by its content."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from haq.errors import MAX_MESSAGE, UserError, printable
from haq.file_limits import BITS, read_text
from haq.interchange.aimet import is_aimet, read_aimet
from haq.interchange.document import parse_json
from haq.interchange.given_bits import ImportedBits
from haq.interchange.layer_lists import read_layer_list
from haq.interchange.matching import match
from haq.interchange.modelopt import is_modelopt, read_modelopt
from haq.interchange.onnx_graph import tensors_read
from haq.interchange.table import is_table, read_table
from haq.policy import Policy
from hardware_sim.layer import Layer

Format = Literal["aimet", "json", "csv"]


@dataclass(frozen=True, slots=True)
class ImportedPolicy:
    """Policy that was read from a file of another tool.

    Attributes:
        policy: Bits of all layers, without cost and accuracy.
        notes: What was left out or decided, one line each.
    """

    policy: Policy
    notes: tuple[str, ...]


def read_policy(
    path: Path,
    layers: Sequence[Layer],
    *,
    model: str,
    format: Format | None = None,  # noqa: A002
    graph: Path | None = None,
    wide_as_float: bool = False,
) -> ImportedPolicy:
    """Read the bits of a network's layers from a file of another tool.

    Args:
        path: AIMET encodings, settings of Model Optimizer, a list of layers as JSON, or a table as CSV.
        layers: Layers of the network.
        model: Name of the network.
        format: Format of the file; recognized by its content if None.
        graph: ONNX file that belongs to AIMET encodings and names their activations.
        wide_as_float: Leave in float what has more than 8 bits, which is refused otherwise.

    Returns:
        The policy; a layer without entry stays in float.

    Raises:
        UserError: The file has no known form, or names that are no layers; the message names file and place.

    Examples:
        >>> read_policy(Path("model.encodings"), layers, model="net").policy.w_bits  # doctest: +SKIP
    """
    text = read_text(path, BITS)
    read = None if graph is None else tensors_read(graph, layers)
    try:
        found = match(_parsed(text, format, layers), layers, graph=read, wide_as_float=wide_as_float)
    except UserError as error:
        raise UserError(f"{path}: {_printable(str(error))}") from error
    policy = Policy(model=model, hardware=None, objective=None, layers=found.layers)
    policy.check_fits(tuple(layers), model=model)
    return ImportedPolicy(policy, found.notes)


def _printable(text: str) -> str:
    """Return a message without the control characters and endless names of a file."""
    line = printable(text)
    return line if len(line) <= MAX_MESSAGE else f"{line[:MAX_MESSAGE]} ..."


def _parsed(text: str, format: Format | None, layers: Sequence[Layer]) -> ImportedBits:  # noqa: A002
    if format == "csv" or (format is None and is_table(text)):
        return read_table(text)
    document = parse_json(text)
    if format == "aimet" or (format is None and is_aimet(document)):
        return read_aimet(document)
    return _json(document, layers)


def _json(document: Any, layers: Sequence[Layer]) -> ImportedBits:
    if isinstance(document, dict) and document.get("format") == "haq-policy":
        raise UserError("this is a policy of haq already, which every command takes as it is")
    return read_modelopt(document, layers) if is_modelopt(document) else read_layer_list(document)
