"""Integer network: tensors of int8 codes and operations on them, in the order of execution.

It is what microcontrollers execute. Beside the inputs of layers, which the policy quantizes, it quantizes the input of
the network, sums, products, pooled and concatenated tensors and outputs, with 8 bits. So its results differ slightly
from those of the network with quantized layers alone (`execution=integer`). All arithmetic is defined in
`haq.exporters.integer.arithmetic`; the shapes leave out the batch, and images are [channels, height, width].
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int8]
Integers = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTensor:
    """Tensor of integer codes: value = (code - zero_point) * scale.

    Codes are stored as int8. Unsigned grids of 8 bits are stored 128 lower, and so is their zero point.

    Attributes:
        name: Name of the tensor, unique in its network.
        shape: Shape without the batch: (channels,) or (channels, height, width).
        scale: Step size, exact in float32.
        zero_point: Code of zero, -128 to 127.
        q_min: Lowest code.
        q_max: Highest code.
    """

    name: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    q_min: int = -128
    q_max: int = 127


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Product:
    """Convolution or matrix product of a tensor with constant weights, with a bias, requantized per channel.

    Codes of zero pad the borders. Batch norm is folded into scales and bias; its sign is in the codes. Scales and
    offsets per channel that are part of no layer, such as those of a batch norm that follows an addition, are depthwise
    convolutions of one pixel with 8 bits.

    Attributes:
        layer: Name of the layer; for a scale and offset per channel, one that no layer of the policy has.
        source: Input tensor.
        output: Output tensor.
        weights: Codes of `w_bits` with zero point 0, [c_out, c_in / groups, kernel height, kernel width], or
            [c_out, c_in] for matrix products.
        w_bits: Bits of the weights.
        w_scale: Step sizes of the weights, exact in float32, as float64 [c_out].
        bias: In steps of the accumulator, input scale * w_scale / 2^shift, int32 [c_out].
        low: Lowest output code, of the output tensor or of a ReLU that is part of the operation.
        high: Highest output code, of the output tensor or of a ReLU6.
        stride: Vertical and horizontal stride.
        padding: Rows and columns of zeros: top, left, bottom, right.
        dilation: Vertical and horizontal dilation.
        groups: Number of groups of channels.
        shift: Left shift of the sum of products before the bias is added, 0 to 6: accumulator = (sum << shift) + bias.
            Sums of 2-bit codes are so coarse that biases rounded to their steps would cost accuracy. The same results
            from int8 weights alone: codes shifted left, and w_scale / 2^shift.
    """

    layer: str
    source: str
    output: str
    weights: Codes
    w_bits: int
    w_scale: NDArray[np.float64]
    bias: Integers
    low: int
    high: int
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    shift: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Elementwise:
    """Sum or product of two tensors of the same shape, or of an image with one value per channel [c, 1, 1].

    Attributes:
        operator: Operator.
        sources: The two input tensors.
        output: Output tensor.
        low: Lowest output code.
        high: Highest output code.
    """

    operator: Literal["add", "multiply"]
    sources: tuple[str, str]
    output: str
    low: int
    high: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Largest or mean code in windows; input and output have the same scale and zero point.

    Padding takes part in no window: means are over the codes inside the image.

    Attributes:
        operator: Operator.
        source: Input tensor.
        output: Output tensor.
        kernel: Height and width of the windows.
        stride: Vertical and horizontal stride.
        padding: Rows and columns outside the image: top, left, bottom, right.
    """

    operator: Literal["max", "average"]
    source: str
    output: str
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Concatenation:
    """Concatenation along the channels; inputs and output have the same scale and zero point.

    Attributes:
        sources: Input tensors.
        output: Output tensor.
    """

    sources: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Function of single codes, by lookup: activations, and requantization to another scale or width.

    Attributes:
        source: Input tensor.
        output: Output tensor.
        codes: Output code for each input code from -128 to 127, int8 [256].
    """

    source: str
    output: str
    codes: Codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Rearrangement:
    """Change of shape or selection without arithmetic.

    `flatten` takes [c, h, w] to [c * h * w] in the order of channels first, or [c] to [c, 1, 1]. `pad` adds channels or
    pixels that have the code of zero. `subsample` takes every n-th pixel.

    Attributes:
        operator: Operator.
        source: Input tensor.
        output: Output tensor, of the same scale and zero point.
        padding: For `pad`: numbers of (before, after) entries per axis of the shape.
        stride: For `subsample`: vertical and horizontal stride.
    """

    operator: Literal["flatten", "pad", "subsample"]
    source: str
    output: str
    padding: tuple[tuple[int, int], ...] = ()
    stride: tuple[int, int] = (1, 1)


Operation = Product | Elementwise | Pool | Concatenation | Table | Rearrangement


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class IntegerNetwork:
    """Network of integer operations.

    The input is quantized in float32 by rounding to nearest even: code = clip(rint(x / scale) + zero_point). The output
    is dequantized.

    Attributes:
        name: Name of the network.
        input: Name of the input tensor.
        output: Name of the output tensor.
        tensors: All tensors by name.
        operations: Operations in the order of execution; each writes one tensor that none before wrote.
    """

    name: str
    input: str
    output: str
    tensors: Mapping[str, CodeTensor]
    operations: tuple[Operation, ...] = field(default=())


def sources_of(operation: Operation) -> tuple[str, ...]:
    """Return the input tensors of an operation.

    Args:
        operation: Operation of an integer network.

    Returns:
        Their names.
    """
    if isinstance(operation, Elementwise | Concatenation):
        return operation.sources
    return (operation.source,)


def code_bits(codes: Codes) -> int:
    """Return the bits that codes need in two's complement.

    They are those of the policy, except where a negative scale of a batch norm turned the codes -1 and 0 of one bit
    to 0 and 1, or where a layer does not use its range.

    Args:
        codes: Codes of any shape.

    Returns:
        1 to 8.

    Examples:
        >>> [code_bits(np.array(codes, np.int8)) for codes in ([-1, 0], [0, 1], [-4, 3], [-127, 127])]
        [1, 2, 3, 8]
    """
    return max(int(codes.max(initial=0)).bit_length(), (-1 - int(codes.min(initial=-1))).bit_length()) + 1
