"""What a layer computes: the few integers that every cost model needs."""

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
    """One call of one layer on one image (or one sequence); sizes are (height, width).

    A linear layer that is applied at every position of a sequence has the positions in `output_size`; a convolution of
    several maps, as of the regions of a detector, has them one below the other. A recurrent layer
    multiplies its state, `c_in`, into all its gates, `c_out`, in as many steps as `output_size` holds, each of which
    waits for the one before. An embedding has its vocabulary as `c_in`. A matmul multiplies two activations: it has no
    weights.

    `input_tensors` and `output_tensor` number the activation tensors of the network, so that a cost model can tell who
    reads what a layer wrote; element-wise operations in between keep the number, that of the latest where they combine
    several. The others that are combined, shortcuts that no layer reads any more, are the `held_tensors` of the layer
    after which this happens: they occupy memory until then.

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
    output_tensor: int | None = None
    held_tensors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        numbers = (self.c_in, self.c_out, self.groups, *self.kernel, *self.stride, *self.dilation)
        if min(*numbers, *self.input_size, *self.output_size) < 1:
            raise ValueError(f"layer {self.name!r}: every size must be at least 1, got {self}")
        if self.c_in % self.groups or self.c_out % self.groups:
            raise ValueError(
                f"layer {self.name!r}: {self.groups} groups divide neither {self.c_in} nor {self.c_out} channels"
            )

    @property
    def weights_read(self) -> int:
        """Weights that one call multiplies with; bias excluded."""
        if self.kind == "matmul":
            return 0
        return self.c_in * self.c_out * prod(self.kernel) // self.groups

    @property
    def weight_count(self) -> int:
        """Weights that this layer adds to the model's size; a tied call adds none."""
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
    """For every layer the position of the layer whose bits it takes: its own, or that of the layer it is tied to.

    >>> a = Layer(name="a", kind="linear", c_in=4, c_out=4)
    >>> decision_index([a, Layer(name="a:2", kind="linear", c_in=4, c_out=4, tied_to="a")])
    [0, 0]
    """
    position = {layer.name: index for index, layer in enumerate(layers)}
    if len(position) != len(layers):
        raise ValueError("layer names must be unique")
    return [position[layer.tied_to or layer.name] for layer in layers]
