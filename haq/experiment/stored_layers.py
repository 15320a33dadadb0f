"""Traced layers of a run as a JSON file, so that readers need no network; costs follow from the layers and a device.

The file is validated when it is read, as it may come from another user.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from re import fullmatch

from pydantic import TypeAdapter, ValidationError

from haq.errors import UserError, validation_message
from haq.file_limits import RUN_DOCUMENT, read_bytes
from haq.layer_bits import PRINTABLE
from haq.network.layers import Trace
from haq.runs.run_folder import LAYERS, RunFolder
from hardware_sim.layer import Layer

MAX_LAYERS = 2000
MAX_SIZE = 2**31
"""Limit on every size of a layer, such as its channels."""
MAX_COUNT = 2**44
"""Limit on weights, elements and multiplications of a layer: costs of whole batches still fit into 64 bits."""
MAX_TENSORS = 1000
"""Limit on the tensors that a layer reads or that memory holds while it runs."""
MAX_NAME = 1000
_TRACE = TypeAdapter(Trace)


def save_layers(run: RunFolder, trace: Trace) -> None:
    """Write the layers of a network.

    Layers that exceed the limits of the file are not stored: readers trace the network again.

    Args:
        run: Folder of the run.
        trace: Layers of the network.
    """
    if next(_problems(trace), None) is None:
        run.write(LAYERS, _TRACE.dump_json(trace, indent=1) + b"\n")


def load_layers(run: RunFolder) -> Trace | None:
    """Read the layers of a run.

    Args:
        run: Folder of the run.

    Returns:
        The layers; None if none are stored.

    Raises:
        UserError: The file is damaged.
    """
    path = run.path / LAYERS
    if not path.is_file():
        return None
    content = read_bytes(path, RUN_DOCUMENT)
    try:
        trace = _TRACE.validate_json(content, strict=True)
    except ValidationError as error:
        raise UserError(f"{path} is damaged ({validation_message(error)}); {_remedy(path)}") from error
    problem = next(_problems(trace), None)
    if problem is not None:
        raise UserError(f"{path} is damaged ({problem}); {_remedy(path)}")
    return trace


def _remedy(path: Path) -> str:
    return f"delete {path.name} to trace the network again"


def _problems(trace: Trace) -> Iterator[str]:
    """Yield descriptions of the properties that no trace of a network has."""
    names = [layer.name for layer in trace.layers]
    if not 1 <= len(names) <= MAX_LAYERS or len(trace.sites) != len(names):
        yield f"{len(names)} layers at {len(trace.sites)} sites"
    if len(set(names)) != len(names):
        yield "two layers of one name"
    strange = [name for name in _texts(trace) if len(name) > MAX_NAME or not fullmatch(PRINTABLE, name)]
    if strange:
        yield f"the name {strange[0][:40]!r}"
    earlier: set[str] = set()
    for layer in trace.layers:
        if layer.tied_to is not None and layer.tied_to not in earlier:
            yield f"layer {layer.name}: tied to {layer.tied_to}, which does not come before it"
        if max(_numbers(layer), default=0) > MAX_SIZE:
            yield f"layer {layer.name}: a size above {MAX_SIZE}"
        elif max(layer.weights_read, layer.macs, layer.input_count, layer.output_count) > MAX_COUNT:
            yield f"layer {layer.name}: more than {MAX_COUNT} weights, elements or multiplications"
        tensors = (*layer.input_tensors, *layer.second_tensors, *layer.held_tensors)
        if len(tensors) > MAX_TENSORS:
            yield f"layer {layer.name}: more than {MAX_TENSORS} tensors"
        if any(not 0 <= number <= len(names) for number in tensors):
            yield f"layer {layer.name}: reads a tensor that does not exist"
        earlier.add(layer.name)
    if not set(trace.heads) <= set(names):
        yield "a head that is no layer"


def _texts(trace: Trace) -> Iterator[str]:
    yield from (layer.name for layer in trace.layers)
    yield from chain.from_iterable((each.name, each.reason) for each in trace.refused)


def _numbers(layer: Layer) -> Iterator[int]:
    yield from (layer.c_in, layer.c_out, layer.groups)
    yield from (*layer.kernel, *layer.stride, *layer.dilation, *layer.input_size, *layer.output_size)
