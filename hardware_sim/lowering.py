"""Lowering of layers to matrix products."""

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
    """Return the matrix products that compute a layer on one image.

    - convolution: for every group [c_out, k^2 c_in] by the output positions (im2col), for any stride and dilation;
    - conv_transpose: for every group [k^2 c_out, c_in] by the input positions; adding the overlaps is free;
    - linear: [c_out, c_in] by the positions;
    - matmul: one for every group; the second activation takes the place of the weights and has w_bits;
    - recurrent: one product per step, because each step depends on the one before;
    - embedding: none, as its rows are only looked up.

    Args:
        layer: The layer.

    Returns:
        Equal products, as one `Product` with a number of repeats.

    Example:
        >>> image_product(Layer(name="c", kind="conv", c_in=4, c_out=6, kernel=(3, 3), output_size=(5, 5)))
        Product(repeats=1, rows=6, columns=25, depth=36)
    """
    return _PRODUCTS[layer.kind](layer)


def lookup_count(layer: Layer, batch: int) -> int:
    """Count the elements of the weights that an embedding reads.

    Args:
        layer: The layer.
        batch: Number of images.

    Returns:
        Elements for the whole batch; 0 for every other kind of layer.
    """
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
