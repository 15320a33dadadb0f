"""Shape of a layer: the few integers that every cost model needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Literal, get_args

LayerKind = Literal["conv", "depthwise", "conv_transpose", "linear", "matmul", "embedding", "recurrent"]
LAYER_KINDS: tuple[LayerKind, ...] = get_args(LayerKind)
SPATIAL_KINDS: tuple[LayerKind, ...] = ("conv", "depthwise", "conv_transpose")
Size = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One call of one layer on one image or sequence; sizes are (height, width).

    Args:
        name: Unique name, the path of the module.
        kind: What the layer computes. A matmul multiplies two activations and has no weights.
        c_in: Input channels; the vocabulary of an embedding, the state of a recurrent layer.
        c_out: Output channels; all gates of a recurrent layer.
        kernel: Size of the kernel.
        stride: Stride of the kernel.
        dilation: Spacing of the taps of the kernel.
        groups: Groups of channels, which divide `c_in` and `c_out`.
        input_size: Size of the input feature map.
        output_size: Size of the output feature map; positions of a linear layer that is applied to a sequence, steps of
            a recurrent layer. A convolution of several maps, such as the regions of a detector, has them stacked in
            height.
        tied_to: Name of the earlier layer that shares its weights with this one.
        input_tensors: Numbers of the activation tensors that the layer reads. Element-wise operations in between keep
            the number; where they combine several tensors, that of the latest.
        second_tensors: Those of `input_tensors` that the second operand of a product of two activations alone reads.
        output_tensor: Number of the activation tensor that the layer writes.
        held_tensors: Other operands of an element-wise operation after this layer (shortcuts that no layer reads
            afterwards), which occupy memory until then.

    Raises:
        ValueError: A size is below 1, or the groups do not divide the channels.

    Example:
        >>> Layer(name="dw", kind="depthwise", c_in=32, c_out=32, kernel=(3, 3), groups=32,
        ...       input_size=(14, 14), output_size=(14, 14)).macs
        56448
    """

    name: str
    kind: LayerKind
    c_in: int
    c_out: int
    kernel: Size = (1, 1)
    stride: Size = (1, 1)
    dilation: Size = (1, 1)
    groups: int = 1
    input_size: Size = (1, 1)
    output_size: Size = (1, 1)
    tied_to: str | None = None
    input_tensors: tuple[int, ...] = ()
    second_tensors: tuple[int, ...] = ()
    output_tensor: int | None = None
    held_tensors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.c_in, self.c_out, self.groups, *self.kernel, *self.stride, *self.dilation)
        if min(*numbers, *self.input_size, *self.output_size) < 1:
            raise ValueError(f"layer {self.name!r}: every size must be at least 1, got {self}")
        if self.c_in % self.groups or self.c_out % self.groups:
            raise ValueError(
                f"layer {self.name!r}: {self.groups} groups must divide {self.c_in} input, {self.c_out} output channels"
            )

    @property
    def has_weights(self) -> bool:
        """Whether the input is multiplied with weights, not with a second activation."""
        return self.kind != "matmul"

    @property
    def weights_read(self) -> int:
        """Weights that one call multiplies with, without the bias."""
        if not self.has_weights:
            return 0
        return self.c_in * self.c_out * prod(self.kernel) // self.groups

    @property
    def weight_count(self) -> int:
        """Weights that this layer adds to the size of the model; 0 for a tied call."""
        return 0 if self.tied_to else self.weights_read

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        if self.kind == "embedding":
            return 0
        positions = prod(self.input_size if self.kind == "conv_transpose" else self.output_size)
        return positions * self.c_in * self.c_out * prod(self.kernel) // self.groups

    @property
    def input_count(self) -> int:
        """Elements of the input activations of one image."""
        return prod(self.input_size) * (1 if self.kind == "embedding" else self.c_in)

    @property
    def output_count(self) -> int:
        """Elements of the output activations of one image."""
        return prod(self.output_size) * self.c_out


def decision_index(layers: Sequence[Layer]) -> list[int]:
    """Map every layer to the layer whose bits it takes: itself, or the one that it is tied to.

    Args:
        layers: Layers with unique names.

    Returns:
        Positions [layer].

    Raises:
        ValueError: Two layers have the same name.

    Example:
        >>> a = Layer(name="a", kind="linear", c_in=4, c_out=4)
        >>> decision_index([a, Layer(name="a:2", kind="linear", c_in=4, c_out=4, tied_to="a")])
        [0, 0]
    """
    position = {layer.name: index for index, layer in enumerate(layers)}
    if len(position) != len(layers):
        raise ValueError("layer names must be unique")
    return [position[layer.tied_to or layer.name] for layer in layers]
