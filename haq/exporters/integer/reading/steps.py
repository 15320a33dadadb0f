"""Steps of a network, read from its ONNX graph: operations on float tensors, before their codes are chosen."""

from dataclasses import dataclass
from typing import Literal

from haq.evaluation.engines.onnxruntime.template import Affine
from haq.exporters.integer.reading.functions import IDENTITY, Function

Padding = tuple[int, int, int, int]
"""Rows and columns of zeros: top, left, bottom, right."""
NO_PADDING: Padding = (0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Value:
    """Float tensor, as a function of a tensor that a step writes.

    Attributes:
        root: Tensor of the step, or the input of the network.
        function: Function of its entries.
        padding: Zeros around its images, added after the function.
    """

    root: str
    function: Function = IDENTITY
    padding: Padding = NO_PADDING


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProductStep:
    """Product with constant weights: a layer, or a scale and an offset per channel.

    Attributes:
        name: Name of the layer, or of the batch norm.
        output: Tensor that is written.
        shape: Its shape, without the batch.
        source: Input.
        layer: Position of the layer; None for a scale and an offset per channel.
        affine: The scale and offset, [c] each; for a layer bias and batch norm.
        stride: Vertical and horizontal stride.
        padding: Rows and columns of zeros.
        dilation: Vertical and horizontal dilation.
        groups: Number of groups of channels.
    """

    name: str
    output: str
    shape: tuple[int, ...]
    source: Value
    layer: int | None
    affine: Affine
    stride: tuple[int, int] = (1, 1)
    padding: Padding = NO_PADDING
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementwiseStep:
    """Sum or product of two tensors; the second may have one value per channel.

    Attributes:
        operator: Operator.
        output: Tensor that is written.
        shape: Its shape, without the batch.
        sources: Inputs.
    """

    operator: Literal["add", "multiply"]
    output: str
    shape: tuple[int, ...]
    sources: tuple[Value, Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolStep:
    """Largest or mean value in windows; padding takes part in none.

    Attributes:
        operator: Operator.
        output: Tensor that is written.
        shape: Its shape, without the batch.
        source: Input.
        kernel: Height and width of the windows.
        stride: Vertical and horizontal stride.
        padding: Rows and columns outside the image.
    """

    operator: Literal["max", "average"]
    output: str
    shape: tuple[int, ...]
    source: Value
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: Padding = NO_PADDING


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcatenationStep:
    """Concatenation along the channels.

    Attributes:
        output: Tensor that is written.
        shape: Its shape, without the batch.
        sources: Inputs.
    """

    output: str
    shape: tuple[int, ...]
    sources: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RearrangementStep:
    """Change of shape or selection without arithmetic, see `network.Rearrangement`.

    Attributes:
        operator: Operator.
        output: Tensor that is written.
        shape: Its shape, without the batch.
        source: Input.
        padding: For `pad`: numbers of (before, after) entries per axis of the shape.
        stride: For `subsample`: vertical and horizontal stride.
    """

    operator: Literal["flatten", "pad", "subsample"]
    output: str
    shape: tuple[int, ...]
    source: Value
    padding: tuple[tuple[int, int], ...] = ()
    stride: tuple[int, int] = (1, 1)


Step = ProductStep | ElementwiseStep | PoolStep | ConcatenationStep | RearrangementStep


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Steps of a network.

    Attributes:
        input: Name of the input.
        input_shape: Its shape, without the batch.
        steps: Steps in order.
        output: Output of the network.
    """

    input: str
    input_shape: tuple[int, ...]
    steps: tuple[Step, ...]
    output: Value


def values_read_by(step: Step) -> tuple[Value, ...]:
    """Return the inputs of a step.

    Args:
        step: Step.

    Returns:
        Its inputs, in order.
    """
    return step.sources if isinstance(step, ElementwiseStep | ConcatenationStep) else (step.source,)
