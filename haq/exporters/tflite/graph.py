"""Graph of TFLite operators for an integer network: tensors in channels-last layout, clamps and padding."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from haq.exporters.formats import ExportedLayer
from haq.exporters.integer.network import CodeTensor, IntegerNetwork
from haq.exporters.tflite.flatbuffer import GraphWriter, Operator, Quantization
from haq.exporters.tflite.windows import WindowPadding

PAD = Operator("PAD", 2, "PadOptions")
PAD_WITH_VALUE = Operator("PADV2", 2, "PadV2Options")
RESHAPE = Operator("RESHAPE", 1, "ReshapeOptions")
MAXIMUM = Operator("MAXIMUM", 2, "MaximumMinimumOptions")
MINIMUM = Operator("MINIMUM", 2, "MaximumMinimumOptions")
LOWEST, HIGHEST = -128, 127


@dataclass(eq=False)
class Graph:
    """TFLite graph of an integer network, which grows operation by operation.

    Attributes:
        network: Network that is written.
        lookup_tables: Whether weights may be stored as lookup tables.
        writer: Writer of the file.
        indices: Tensors of the network that are in the graph.
        layers: Layers that are in the graph, by name.
        stored: The first layer with certain weights, by their storage and bytes.
    """

    network: IntegerNetwork
    lookup_tables: bool
    writer: GraphWriter = field(default_factory=GraphWriter)
    indices: dict[str, int] = field(default_factory=dict)
    layers: dict[str, ExportedLayer] = field(default_factory=dict)
    stored: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def output(self, name: str) -> int:
        """Add a tensor of the network.

        Args:
            name: Name of the tensor.

        Returns:
            Its index.
        """
        tensor = self.network.tensors[name]
        self.indices[name] = self.intermediate(tensor, layout(tensor.shape), "")
        return self.indices[name]

    def intermediate(self, like: CodeTensor, shape: tuple[int, ...], ending: str) -> int:
        """Add a tensor with the scale and zero point of a tensor of the network.

        Args:
            like: Tensor of the network.
            shape: Shape with a batch of 1.
            ending: What its name has behind that of `like`.

        Returns:
            Index of the tensor.
        """
        return self.writer.tensor(like.name + ending, shape, quantization=quantization_of(like))

    def write_clamped(self, name: str, low: int, high: int, write: Callable[[int, int], None]) -> None:
        """Write an operator whose output is clamped, within the operator where that has an activation for it.

        Args:
            name: Output tensor of the network.
            low: Lowest code.
            high: Highest code.
            write: Writes the operator; takes the index of its output and its activation.
        """
        tensor = self.network.tensors[name]
        fused = fused_activation(tensor, low, high)
        if fused is not None:
            write(self.output(name), fused)
            return
        shape = layout(tensor.shape)
        unclamped = self.intermediate(tensor, shape, ".unclamped")
        write(unclamped, 0)
        self.write_clamp(unclamped, name, low, high)

    def write_clamp(self, source: int, name: str, low: int, high: int) -> None:
        """Write the clamp of a tensor.

        Args:
            source: Index of the tensor, of the scale and zero point of the output.
            name: Output tensor of the network.
            low: Lowest code.
            high: Highest code.
        """
        tensor = self.network.tensors[name]
        if low > LOWEST and high < HIGHEST:
            above = self.intermediate(tensor, layout(tensor.shape), ".above")
            self.writer.operator(MAXIMUM, (source, self._code(tensor, low)), above)
            self.writer.operator(MINIMUM, (above, self._code(tensor, high)), self.output(name))
        elif high < HIGHEST:
            self.writer.operator(MINIMUM, (source, self._code(tensor, high)), self.output(name))
        else:
            self.writer.operator(MAXIMUM, (source, self._code(tensor, low)), self.output(name))

    def padded(self, name: str, padding: WindowPadding, code: int | None = None) -> int:
        """Return an image with the explicit padding of windows.

        Args:
            name: Tensor of the network.
            padding: Padding.
            code: Code of the padding; the zero point by default.

        Returns:
            Index of the padded image, or of the image itself where nothing pads it.
        """
        if not padding.is_explicit:
            return self.indices[name]
        (top, left), (bottom, right) = padding.before, padding.after
        tensor = self.network.tensors[name]
        batch, height, width, channels = layout(tensor.shape)
        shape = (batch, height + top + bottom, width + left + right, channels)
        amounts = self.integers([[0, 0], [top, bottom], [left, right], [0, 0]])
        output = self.intermediate(tensor, shape, f".padded{len(self.indices)}")
        if code is None:
            self.writer.operator(PAD, (self.indices[name], amounts), output)
        else:
            inputs = self.indices[name], amounts, self._code(tensor, code)
            self.writer.operator(PAD_WITH_VALUE, inputs, output)
        return output

    def reshape(self, source: int, output: int, shape: tuple[int, ...]) -> None:
        """Write a change of shape.

        Args:
            source: Index of the input.
            output: Index of the output.
            shape: New shape; -1 for the batch.
        """
        self.writer.operator(RESHAPE, (source, self.integers(shape)), output, newShape=np.array(shape, np.int32))

    def integers(self, values: object) -> int:
        """Return the index of an int32 constant.

        Args:
            values: Values, nested as its shape.

        Returns:
            Index of the constant.
        """
        array: NDArray[np.int32] = np.array(values, np.int32)
        return self.writer.constant(f"integers{array.shape}", array)

    def _code(self, tensor: CodeTensor, code: int) -> int:
        return self.writer.constant(f"{tensor.name}.code{code}", np.array([code], np.int8), quantization_of(tensor))


def layout(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Return the shape of a tensor with its batch and the channels last; vectors are images of one pixel.

    Args:
        shape: (channels,) or (channels, height, width).

    Returns:
        (1, height, width, channels).
    """
    channels, height, width = (*shape, 1, 1)[:3]
    return 1, height, width, channels


def quantization_of(tensor: CodeTensor) -> Quantization:
    """Return scale and zero point of a tensor.

    Args:
        tensor: Tensor of an integer network.

    Returns:
        The same for a file.
    """
    return Quantization(scale=np.array([tensor.scale], np.float32), zero_point=tensor.zero_point)


def fused_activation(tensor: CodeTensor, low: int, high: int) -> int | None:
    """Find the activation of the schema that clamps to a range.

    Args:
        tensor: Output of the activation.
        low: Lowest code.
        high: Highest code.

    Returns:
        Its number: 0 for none, 1 for ReLU, 2 for a clamp to -1 to 1, 3 for ReLU6; None where none fits.
    """

    def code(value: float) -> int:  # as the kernels find it: float32, halves away from zero
        steps = float(np.float32(value) / np.float32(tensor.scale))
        return tensor.zero_point + int(math.copysign(math.floor(abs(steps) + 0.5), steps))

    ends = (LOWEST, HIGHEST), (code(0), HIGHEST), (code(-1), code(1)), (code(0), code(6))
    ranges = [(max(first, LOWEST), min(last, HIGHEST)) for first, last in ends]
    return ranges.index((low, high)) if (low, high) in ranges else None
