"""Bytes of weights as files store them.

TensorFlow Lite Micro has lookup tables, int4 and int8, whichever is smallest for a layer; ONNX has int8, and in compact
files int2 and int4 too.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np

from hardware_sim.cost import WIDTHS, Bits, FloatArray
from hardware_sim.layer import Layer, LayerKind

IntegerStorage = Literal["table", "int4", "int8"]
StorageKind = IntegerStorage | Literal["float32"]
FileStorage = Literal["int8", "narrow", "tflm"]
"""Storage in a file: int8, the narrowest of int2, int4 and int8, or that of TensorFlow Lite Micro."""
CONTAINERS: Final[Mapping[FileStorage, tuple[int, ...]]] = {"int8": (8,), "narrow": (2, 4, 8)}
"""Bits that a weight may take in a file without tables."""
WIDENING_BYTES = 300
"""Size of the nodes that widen int2 and int4 in an ONNX file; int8 is stored where they take more than is saved."""
NARROW_KINDS: tuple[LayerKind, ...] = ("conv", "depthwise", "linear")
"""Kinds of layers whose weights may be int4 or indices into tables; linear layers are convolutions of one pixel."""
INT4_BITS = 4
MAX_TABLE_BITS = 7
"""Widest indices; a table of 8-bit indices would hold all of int8."""
TABLE_HEADER_BYTES = 16
DECODE_BYTES = 192
"""Approximate bytes of the operator and the tensors that decode a table. The choice of a storage counts them too."""


def storage_bytes(count: int, w_bits: int, storage: IntegerStorage) -> int:
    """Compute the bytes of weights in a storage.

    Args:
        count: Number of weights.
        w_bits: Their bits.
        storage: Storage.

    Returns:
        Bytes of the codes or indices, and of the table with its header.

    Examples:
        >>> [storage_bytes(1000, 3, storage) for storage in ("int8", "int4", "table")]
        [1000, 500, 399]
    """
    if storage == "int8":
        return count
    if storage == "int4":
        return -(-count // 2)
    return -(-count * w_bits // 8) + TABLE_HEADER_BYTES + (1 << w_bits)


def choose_storage(count: int, w_bits: int, *, lookup_tables: bool = True) -> IntegerStorage:
    """Choose the smallest storage for weights.

    Args:
        count: Number of weights.
        w_bits: Their bits, 1 to 8.
        lookup_tables: Whether tables are allowed, which only TensorFlow Lite Micro decodes.

    Returns:
        The storage; of equal ones the one that needs less decoding.
    """
    sizes: dict[IntegerStorage, int] = {"int8": count}
    if w_bits <= INT4_BITS:
        sizes["int4"] = storage_bytes(count, w_bits, "int4")
    if lookup_tables and w_bits <= MAX_TABLE_BITS:
        sizes["table"] = storage_bytes(count, w_bits, "table") + DECODE_BYTES
    return min(sizes, key=lambda storage: sizes[storage])


def stored_weight_bytes(layer: Layer, w_bits: Bits) -> tuple[StorageKind, int]:
    """Compute how TensorFlow Lite Micro stores the weights of a layer, and their bytes.

    A tensor of up to 7 bits is either stored as indices of `w_bits`, packed without gaps, and one table of 2^w_bits
    int8 values; or as int4 (up to 4 bits); or as int8. Executed with tflite-micro 0.dev20261023 (TFLM_DECODE) in
    November 2026: tables of 1 to 7 bits, shared by all channels, give the codes of int8. Layers of the same width share
    a table in the file, but each counts it here. Scales and biases are not counted.

    Args:
        layer: The layer; one that is tied to another stores nothing.
        w_bits: Bits of the weights, 1 to 8; None for float.

    Returns:
        How the weights are stored, and the number of bytes.

    Example:
        >>> conv = Layer(name="c", kind="conv", c_in=64, c_out=64, kernel=(3, 3))
        >>> [stored_weight_bytes(conv, bits) for bits in (2, 4, 7)]
        [('table', 9236), ('int4', 18432), ('table', 32400)]
    """
    count = layer.weight_count
    if w_bits is None:
        return "float32", 4 * count
    storage = choose_storage(count, w_bits) if layer.kind in NARROW_KINDS else "int8"
    return storage, storage_bytes(count, w_bits, storage)


def container_weight_bytes(layer: Layer, w_bits: Bits, storage: FileStorage) -> int:
    """Compute the bytes of a layer's weights in an ONNX file.

    Args:
        layer: The layer; one that is tied to another stores nothing.
        w_bits: Bits of the weights, 1 to 8; None for float.
        storage: Storage, a key of `CONTAINERS`.

    Returns:
        Number of bytes.

    Example:
        >>> conv = Layer(name="c", kind="conv", c_in=64, c_out=64, kernel=(3, 3))
        >>> [container_weight_bytes(conv, 3, storage) for storage in ("int8", "narrow")]
        [36864, 18432]
    """
    count = layer.weight_count
    if w_bits is None:
        return 4 * count
    width = next(each for each in CONTAINERS[storage] if each >= w_bits)
    saved = count * (8 - width) // 8
    return -(-count * width // 8) if saved > WIDENING_BYTES else count


def file_weight_bytes(layers: Sequence[Layer], storage: FileStorage) -> FloatArray:
    """Compute the bytes of every layer's weights in a file.

    Args:
        layers: The layers.
        storage: Storage of the file.

    Returns:
        Bytes [layer, w_bits, a_bits] along `WIDTHS`.
    """

    def size(layer: Layer, bits: Bits) -> int:
        return (
            stored_weight_bytes(layer, bits)[1] if storage == "tflm" else container_weight_bytes(layer, bits, storage)
        )

    sizes = np.array([[size(layer, bits) for bits in WIDTHS] for layer in layers], dtype=np.float64)
    return np.repeat(sizes.reshape(len(layers), len(WIDTHS))[:, :, None], len(WIDTHS), axis=2)
