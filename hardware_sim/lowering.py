"""How a layer becomes matrix products."""

from collections.abc import Callable, Mapping
from math import prod
from typing import NamedTuple

from hardware_sim.layer import Layer, LayerKind


class Product(NamedTuple):
    """`repeats` products of [rows, depth] weights by [depth, columns] activations, one after the other."""

    repeats: int
    rows: int
    columns: int
    depth: int


def image_product(layer: Layer) -> Product:
    """The products of one image.

    - convolution: for every group [c_out, k^2 c_in] by the output positions (im2col), whatever stride and dilation;
    - conv_transpose: for every group [k^2 c_out, c_in] by the input positions; adding the overlaps up costs nothing;
    - linear: [c_out, c_in] by the positions;
    - matmul: for every group; the second activation stands in the weights' place and has w_bits;
    - recurrent: one product a step, because each step waits for the one before;
    - embedding: none, its rows are only looked up.

    >>> image_product(Layer(name="c", kind="conv", c_in=4, c_out=6, kernel=(3, 3), output_size=(5, 5)))
    Product(repeats=1, rows=6, columns=25, depth=36)
    """
    return _PRODUCTS[layer.kind](layer)


def lookup_count(layer: Layer, batch: int) -> int:
    """Elements of the weights that an embedding fetches for a batch; 0 for every other layer."""
    return batch * layer.output_count if layer.kind == "embedding" else 0


def _convolution(layer: Layer) -> Product:
    depth = prod(layer.kernel) * layer.c_in // layer.groups
    return Product(layer.groups, layer.c_out // layer.groups, prod(layer.output_size), depth)


def _transposed(layer: Layer) -> Product:
    rows = prod(layer.kernel) * layer.c_out // layer.groups
    return Product(layer.groups, rows, prod(layer.input_size), layer.c_in // layer.groups)


_PRODUCTS: Mapping[LayerKind, Callable[[Layer], Product]] = {
    "conv": _convolution,
    "depthwise": _convolution,
    "conv_transpose": _transposed,
    "linear": _convolution,
    "matmul": _convolution,
    "recurrent": lambda layer: Product(prod(layer.output_size), layer.c_out, 1, layer.c_in),
    "embedding": lambda _layer: Product(0, 1, 1, 1),
}
