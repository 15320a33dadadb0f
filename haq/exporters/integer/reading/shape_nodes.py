"""Reading of pooling, concatenation, padding and changes of shape."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from haq.evaluation.engines.onnxruntime.marking import attribute
from haq.evaluation.engines.onnxruntime.template import Node
from haq.exporters.integer.reading.state import GraphState, Shape, refuse
from haq.exporters.integer.reading.steps import (
    NO_PADDING,
    ConcatenationStep,
    PoolStep,
    RearrangementStep,
    Value,
)
from haq.exporters.integer.reading.windows import Windows, whole_image, windows_of


def read_pool(state: GraphState, node: Node) -> None:
    """Read pooling over windows, or over whole images.

    Args:
        state: State of the reading.
        node: The node.
    """
    value, kernel = state.plain(state.values[node.input[0]]), attribute(node, "kernel_shape", None)
    shape, is_max = state.shape(value), "Max" in node.op_type
    if len(shape) != 3 or len(node.output) != 1:
        refuse(node, f" of shape {list(shape)}")
    windows = whole_image(shape[1:]) if kernel is None else windows_of(node, shape[1:], (kernel[0], kernel[1]))
    if windows.dilation != (1, 1):
        refuse(node, " with dilation")
    if not is_max and attribute(node, "count_include_pad", 0) and any(windows.padding):
        if attribute(node, "ceil_mode", 0):
            refuse(node, " with padding and ceil_mode")
        value = state.plain(Value(value.root, value.function, windows.padding))
        windows = Windows(windows.kernel, windows.stride, NO_PADDING, (1, 1), windows.counts)
    _append_pool(state, node.output[0], value, windows, is_max=is_max)


def read_mean(state: GraphState, node: Node) -> None:
    """Read a mean over whole images.

    Args:
        state: State of the reading.
        node: The node.
    """
    value = state.plain(state.values[node.input[0]])
    shape, axes = state.shape(value), _integers(state, node, 1, "axes")
    if len(shape) != 3 or axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
        refuse(node, f" of shape {list(shape)} over axes {axes}")
    name = node.output[0]
    result = _append_pool(state, name, value, whole_image(shape[1:]), is_max=False)
    if not attribute(node, "keepdims", 1):
        state.values[name] = state.flattened(result, shape[:1], f"{name}.flat")


def _append_pool(state: GraphState, output: str, value: Value, windows: Windows, *, is_max: bool) -> Value:
    return state.append(
        PoolStep(
            operator="max" if is_max else "average",
            output=output,
            shape=(state.shape(value)[0], *windows.counts),
            source=value,
            kernel=windows.kernel,
            stride=windows.stride,
            padding=windows.padding,
        )
    )


def read_reshape(state: GraphState, node: Node) -> None:
    """Read a change of shape: into one vector, or between [c] and [c, 1, 1].

    Args:
        state: State of the reading.
        node: The node.
    """
    value = state.plain(state.values[node.input[0]])
    shape, wanted = state.shape(value), _new_shape(state, node, state.shape(value))
    if wanted == shape:
        state.values[node.output[0]] = value
    elif len(wanted) == 1 or (len(shape) == 1 and wanted == (*shape, 1, 1)):
        state.flattened(value, wanted, node.output[0])
    else:
        refuse(node, f" from {list(shape)} to {list(wanted)}")


def _new_shape(state: GraphState, node: Node, shape: Shape) -> Shape:
    """Return the shape after a node, without the batch."""
    if node.op_type == "Flatten":
        if attribute(node, "axis", 1) % (len(shape) + 1) != 1:
            refuse(node, " over the batch")
        return (math.prod(shape),)
    stated = state.described_shape(node.output[0])
    if node.op_type == "Reshape" and node.input[1] in state.constants:
        sizes = [int(size) for size in state.constants[node.input[1]]]
        stated = tuple(shape[place - 1] if size == 0 else size for place, size in enumerate(sizes[1:], start=1))
    if not all(stated) or not stated:
        refuse(node, " to a computed shape")
    if -1 in stated:
        rest = -math.prod(stated)
        stated = tuple(math.prod(shape) // rest if size == -1 else size for size in stated)
    if math.prod(stated) != math.prod(shape):
        refuse(node, " over the batch")
    return stated


def read_concatenation(state: GraphState, node: Node) -> None:
    """Read a concatenation along the channels.

    Args:
        state: State of the reading.
        node: The node.
    """
    if not all(name in state.values for name in node.input):
        refuse(node, " with constants")
    sources = tuple(state.plain(state.values[name]) for name in node.input)
    shapes = [state.shape(source) for source in sources]
    if attribute(node, "axis", 1) % (len(shapes[0]) + 1) != 1:
        refuse(node, " along another axis than the channels")
    shape = (sum(each[0] for each in shapes), *shapes[0][1:])
    state.append(ConcatenationStep(output=node.output[0], shape=shape, sources=sources))


def read_pad(state: GraphState, node: Node) -> None:
    """Read a padding with zeros.

    Args:
        state: State of the reading.
        node: The node.
    """
    value, pads = state.values[node.input[0]], _integers(state, node, 1, "pads")
    filling = node.input[2] if len(node.input) > 2 else ""
    is_zero = not filling or (filling in state.constants and not state.constants[filling].any())
    if pads is None or min(pads) < 0 or attribute(node, "mode", b"constant") != b"constant" or not is_zero:
        refuse(node, " other than with zeros")
    rank = len(state.shape(value)) + 1
    axes = _integers(state, node, 3, "axes") or list(range(rank))
    pairs = [(0, 0)] * rank
    for place, axis in enumerate(axes):
        pairs[axis % rank] = (pads[place], pads[place + len(axes)])
    if pairs[0] != (0, 0):
        refuse(node, " of the batch")
    if rank == 4 and pairs[1] == (0, 0):
        (top, bottom), (left, right) = pairs[2:]
        sums = tuple(map(sum, zip(value.padding, (top, left, bottom, right), strict=True)))
        state.values[node.output[0]] = Value(value.root, value.function, (sums[0], sums[1], sums[2], sums[3]))
    elif any(map(any, pairs)):
        state.padded(state.plain(value), pairs[1:], node.output[0])
    else:
        state.values[node.output[0]] = value


def read_slice(state: GraphState, node: Node) -> None:
    """Read a selection of every n-th pixel.

    Args:
        state: State of the reading.
        node: The node.
    """
    value = state.plain(state.values[node.input[0]])
    shape, stride = state.shape(value), [1, 1]
    starts, ends, axes, steps = (_integers(state, node, place, "") for place in range(1, 5))
    if starts is None or ends is None:
        refuse(node, " with computed bounds")
    axes = axes or list(range(len(starts)))
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        place = axis % (len(shape) + 1)
        if start != 0 or end < (0, *shape)[place] or (step != 1 and (place < 2 or step < 1)):
            refuse(node, " other than of every n-th pixel")
        if step != 1:
            stride[place - 2] = step
    if stride == [1, 1]:
        state.values[node.output[0]] = value
    else:
        _append_subsample(state, node, value, (stride[0], stride[1]))


def _append_subsample(state: GraphState, node: Node, value: Value, stride: tuple[int, int]) -> None:
    """Add a selection of pixels; one that follows another becomes part of it."""
    shape = state.shape(value)
    size = (shape[0], -(-shape[1] // stride[0]), -(-shape[2] // stride[1]))
    last = state.steps[-1] if state.steps else None
    output = node.output[0]
    if (
        isinstance(last, RearrangementStep)
        and last.operator == "subsample"
        and value == Value(last.output)
        and state.is_read_once(last.output)
    ):
        stride = (last.stride[0] * stride[0], last.stride[1] * stride[1])
        value = last.source
        state.steps.pop()
    state.append(RearrangementStep(operator="subsample", output=output, shape=size, source=value, stride=stride))


def _integers(state: GraphState, node: Node, place: int, name: str) -> list[int] | None:
    """Return an input or, in older operators, attribute of integers; None if it is missing or computed."""
    if len(node.input) > place and node.input[place]:
        found: NDArray[Any] | None = state.constants.get(node.input[place])
        return None if found is None else [int(item) for item in np.atleast_1d(found)]
    given = attribute(node, name, None) if name else None
    return None if given is None else [int(item) for item in given]
