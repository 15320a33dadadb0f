"""Bytes of weights as files of TensorFlow Lite Micro store them: lookup tables, int4 or int8, whichever is smallest."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from hardware_sim.cost import WIDTHS, Bits, FloatArray
from hardware_sim.layer import Layer, LayerKind

StorageKind = Literal["table", "int4", "int8", "float32"]
TABLE_KINDS: tuple[LayerKind, ...] = ("conv", "depthwise", "linear")
"""Kinds of layers whose weights may be indices into tables."""
INT4_KINDS: tuple[LayerKind, ...] = ("conv", "depthwise")
"""Kinds of layers with int4 kernels: fully connected ones with int4 weights per channel did not allocate."""
MAX_TABLE_BITS = 7
"""Widest indices; a table of 8-bit indices would hold all of int8."""


def stored_weight_bytes(layer: Layer, w_bits: Bits) -> tuple[StorageKind, int]:
    """Compute how TensorFlow Lite Micro stores the weights of a layer, and their bytes.

    A tensor of up to 7 bits is either stored as indices of `w_bits`, packed without gaps, and a table of 2^w_bits int8
    values for each output channel; or as int4 (up to 4 bits, convolutions only); or as int8. The smallest is chosen, of
    equal ones the one that needs least decoding. Executed with tflite-micro 0.dev20261023 (TFLM_DECODE) in November
    2026: tables of 2 to 7 bits give the codes of int8. A file may be smaller, as a table only needs the values that
    occur. Scales, biases and the 16 bytes that head each table are not counted.

    Args:
        layer: The layer; one that is tied to another stores nothing.
        w_bits: Bits of the weights, 1 to 8; None for float.

    Returns:
        How the weights are stored, and the number of bytes.

    Example:
        >>> conv = Layer(name="c", kind="conv", c_in=64, c_out=64, kernel=(3, 3))
        >>> [stored_weight_bytes(conv, bits) for bits in (2, 4, 7)]
        [('table', 9472), ('int4', 18432), ('int8', 36864)]
    """
    count = layer.weight_count
    if w_bits is None:
        return "float32", 4 * count
    options: list[tuple[int, StorageKind]] = [(count, "int8")]
    if w_bits <= 4 and layer.kind in INT4_KINDS:
        options.append((-(-count // 2), "int4"))
    if w_bits <= MAX_TABLE_BITS and layer.kind in TABLE_KINDS and count:
        options.append((-(-count * w_bits // 8) + layer.c_out * 2**w_bits, "table"))
    size, kind = min(options, key=lambda option: option[0])
    return kind, size


def tflm_weight_bytes(layers: Sequence[Layer]) -> FloatArray:
    """Compute the bytes of every layer's weights in a file of TensorFlow Lite Micro.

    Args:
        layers: The layers.

    Returns:
        Bytes [layer, w_bits, a_bits] along `WIDTHS`.
    """
    sizes = np.array([[stored_weight_bytes(layer, bits)[1] for bits in WIDTHS] for layer in layers], dtype=np.float64)
    return np.repeat(sizes.reshape(len(layers), len(WIDTHS))[:, :, None], len(WIDTHS), axis=2)
