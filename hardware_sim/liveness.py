"""Liveness analysis: which activation tensors occupy memory while a layer runs."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from hardware_sim.layer import Layer


class Live(NamedTuple):
    """Elements of one image that occupy memory in one step."""

    by_reader: Mapping[int, int]
    """Elements by the position of the layer that reads them, now or later; a tensor counts for each of its readers."""
    unread: int
    """Elements that no layer reads."""


def live_elements(layers: Sequence[Layer]) -> Iterator[Live]:
    """Compute what is live while each layer runs: its inputs, its output, and earlier tensors that are needed later.

    A tensor whose size changes between writer and reader counts at the larger size.

    Args:
        layers: Layers in the order of execution.

    Yields:
        Live elements of one step after the other.

    Example:
        >>> first = Layer(name="a", kind="linear", c_in=8, c_out=4, input_tensors=(0,), output_tensor=1)
        >>> second = Layer(name="b", kind="linear", c_in=4, c_out=2, input_tensors=(1,), output_tensor=2)
        >>> list(live_elements([first, second]))
        [Live(by_reader={0: 8, 1: 4}, unread=0), Live(by_reader={1: 4}, unread=2)]
    """
    size = _sizes(layers)
    written_at = {layer.output_tensor: step for step, layer in enumerate(layers)}
    readers: defaultdict[int, list[int]] = defaultdict(list)
    last_use: dict[int, int] = {}
    for step, layer in enumerate(layers):
        for tensor in layer.input_tensors:
            readers[tensor].append(step)
        last_use |= dict.fromkeys((*layer.input_tensors, *layer.held_tensors), step)
    for step, layer in enumerate(layers):
        alive = [one for one in size if written_at.get(one, -1) <= step <= last_use.get(one, written_at.get(one, -1))]
        by_reader = Counter({} if layer.input_tensors else {step: layer.input_count})
        for tensor in alive:
            by_reader.update(dict.fromkeys(readers[tensor], size[tensor]))
        unread = sum(size[tensor] for tensor in alive if not readers[tensor])
        yield Live(dict(sorted(by_reader.items())), unread + (layer.output_count if layer.output_tensor is None else 0))


def _sizes(layers: Sequence[Layer]) -> dict[int, int]:
    """Compute the elements of every tensor of one image, as the largest count that its writer or its readers have."""
    size: Counter[int] = Counter()
    for layer in layers:
        written = [] if layer.output_tensor is None else [(layer.output_tensor, layer.output_count)]
        # Concatenated inputs are each smaller than what the layer reads; tensors without a known writer count fully.
        read = [
            (one, layer.input_count) for one in layer.input_tensors if len(layer.input_tensors) == 1 or one not in size
        ]
        for tensor, count in written + read:
            size[tensor] = max(size[tensor], count)
    return dict(size)
