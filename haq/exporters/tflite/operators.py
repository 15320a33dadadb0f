"""Operators of TFLite for the operations of an integer network without weights."""

from haq.errors import UserError
from haq.exporters.integer.network import Concatenation, Elementwise, Pool, Rearrangement
from haq.exporters.tflite.flatbuffer import Operator
from haq.exporters.tflite.graph import LOWEST, PAD, Graph, layout
from haq.exporters.tflite.windows import Axis, window_padding

ADD = Operator("ADD", 2, "AddOptions")
MULTIPLY = Operator("MUL", 2, "MulOptions")
AVERAGE_POOL = Operator("AVERAGE_POOL_2D", 2, "Pool2DOptions")
MAX_POOL = Operator("MAX_POOL_2D", 2, "Pool2DOptions")
CONCATENATION = Operator("CONCATENATION", 2, "ConcatenationOptions")
TRANSPOSE = Operator("TRANSPOSE", 2, "TransposeOptions")
STRIDED_SLICE = Operator("STRIDED_SLICE", 2, "StridedSliceOptions")
CHANNELS = 3
"""Axis of the channels in tensors with a batch."""
ALL_AXES = 0b1111


def write_elementwise(graph: Graph, operation: Elementwise) -> None:
    """Write a sum or a product of two tensors.

    Args:
        graph: Graph to write to.
        operation: Operation.
    """
    first, second = (graph.indices[name] for name in operation.sources)
    operator = ADD if operation.operator == "add" else MULTIPLY

    def write(output: int, activation: int) -> None:
        graph.writer.operator(operator, (first, second), output, fusedActivationFunction=activation)

    graph.write_clamped(operation.output, operation.low, operation.high, write)


def write_pool(graph: Graph, operation: Pool) -> None:
    """Write a pooling.

    Args:
        graph: Graph to write to.
        operation: Operation.

    Raises:
        UserError: Means over padded images for which TFLite has no padding.
    """
    is_max = operation.operator == "max"
    sizes = layout(graph.network.tensors[operation.source].shape)[1:3]
    outputs = layout(graph.network.tensors[operation.output].shape)[1:3]
    vertical, horizontal = (
        Axis(sizes[n], outputs[n], operation.kernel[n], operation.stride[n], 1, operation.padding[n]) for n in range(2)
    )
    padding = window_padding(vertical, horizontal)
    if padding.is_explicit and not is_max:
        raise UserError(
            f"{operation.output}: TFLite has no average pooling with padding {operation.padding}, only without or with "
            "that of SAME"
        )
    graph.writer.operator(
        MAX_POOL if is_max else AVERAGE_POOL,
        (graph.padded(operation.source, padding, LOWEST),),
        graph.output(operation.output),
        padding=0 if padding.same else 1,
        strideH=operation.stride[0],
        strideW=operation.stride[1],
        filterHeight=operation.kernel[0],
        filterWidth=operation.kernel[1],
    )


def write_concatenation(graph: Graph, operation: Concatenation) -> None:
    """Write a concatenation along the channels.

    Args:
        graph: Graph to write to.
        operation: Operation.
    """
    inputs = tuple(graph.indices[name] for name in operation.sources)
    graph.writer.operator(CONCATENATION, inputs, graph.output(operation.output), axis=CHANNELS)


def write_rearrangement(graph: Graph, operation: Rearrangement) -> None:
    """Write a change of shape, a padding or a selection of pixels.

    Args:
        graph: Graph to write to.
        operation: Operation.
    """
    if operation.operator == "flatten":
        _write_flatten(graph, operation)
    elif operation.operator == "pad":
        channels, height, width = (*operation.padding, (0, 0), (0, 0))[:3]
        amounts = graph.integers([(0, 0), height, width, channels])
        graph.writer.operator(PAD, (graph.indices[operation.source], amounts), graph.output(operation.output))
    else:
        first, step = graph.integers([0] * 4), graph.integers([1, *operation.stride, 1])
        inputs = graph.indices[operation.source], first, first, step
        output = graph.output(operation.output)
        graph.writer.operator(STRIDED_SLICE, inputs, output, beginMask=ALL_AXES, endMask=ALL_AXES)


def _write_flatten(graph: Graph, operation: Rearrangement) -> None:
    """Write a change to a vector in the order of channels first, where that is another one."""
    source, output = (graph.network.tensors[name] for name in (operation.source, operation.output))
    _, height, width, channels = layout(source.shape)
    index = graph.indices[operation.source]
    if layout(source.shape) == layout(output.shape):
        graph.indices[operation.output] = index
        return
    if channels > 1:
        transposed = graph.intermediate(source, (1, channels, height, width), ".channels_first")
        graph.writer.operator(TRANSPOSE, (index, graph.integers([0, 3, 1, 2])), transposed)
        index = transposed
    graph.reshape(index, graph.output(operation.output), (-1, *layout(output.shape)[1:]))
