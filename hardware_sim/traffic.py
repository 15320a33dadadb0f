"""Traffic between chip and main memory: elements and bits of a layer when each is moved once."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hardware_sim.cost import FLOAT_BITS, WIDTH_BITS, FloatArray, IntArray
from hardware_sim.layer import Layer
from hardware_sim.lowering import lookup_count

UNREAD_BITS = 8
"""Width at which an output is written that no layer reads quantized."""


class Elements(NamedTuple):
    """Elements that a batch moves, each [layer].

    Attributes:
        weights: Elements of the weights.
        inputs: Elements of the input activations.
        written: Elements of tensors that this layer is the first to read as its input; they were written at its a_bits.
        written_second: Elements of tensors that it is the first to read as its second operand, written at its w_bits.
        unread: Elements of the layer's own output, if no layer reads it.
    """

    weights: IntArray
    inputs: IntArray
    written: IntArray
    written_second: IntArray
    unread: IntArray


def moved_elements(layers: Sequence[Layer], batch: int) -> Elements:
    """Count the elements that every layer moves for a batch.

    The second activation of a matmul counts as its weights.

    Args:
        layers: Layers in the order of execution.
        batch: Number of images.

    Returns:
        Counts of every layer.
    """
    output_count = {layer.output_tensor: layer.output_count for layer in layers if layer.output_tensor is not None}
    written = np.zeros((2, len(layers)), dtype=np.int64)  # by operand
    read: set[int] = set()
    for index, layer in enumerate(layers):
        for tensor in set(layer.input_tensors) - read:
            written[int(tensor in layer.second_tensors), index] += output_count.get(tensor, 0)
        read |= set(layer.input_tensors)
    unread = [0 if layer.output_tensor in read else layer.output_count for layer in layers]
    return Elements(
        weights=np.array([_weights(layer, batch) for layer in layers], dtype=np.int64),
        inputs=np.array([0 if layer.kind == "embedding" else batch * layer.input_count for layer in layers], np.int64),
        written=batch * written[0],
        written_second=batch * written[1],
        unread=batch * np.array(unread, dtype=np.int64),
    )


def _weights(layer: Layer, batch: int) -> int:
    if not layer.has_weights:
        return batch * layer.c_in * layer.c_out // layer.groups
    return lookup_count(layer, batch) if layer.kind == "embedding" else layer.weights_read


class MovedBits(NamedTuple):
    """Bits that a batch moves, each [layer, w_bits, a_bits] or of a shape that broadcasts to it."""

    weights: FloatArray
    inputs: FloatArray
    outputs: FloatArray

    @property
    def total(self) -> FloatArray:
        """Sum over the operands, [layer, w_bits, a_bits]."""
        return self.weights + self.inputs + self.outputs


def moved_bits(elements: Elements, w_stored: FloatArray, a_stored: FloatArray) -> MovedBits:
    """Compute the traffic in bits.

    Args:
        elements: Elements that are moved.
        w_stored: Bits that a weight occupies, broadcastable to [w_bits, a_bits].
        a_stored: Bits that an activation occupies, of such a shape too.

    Returns:
        Bits of weights, inputs and outputs.
    """
    weights, inputs, written, written_second, unread = (part[:, None, None].astype(np.float64) for part in elements)
    return MovedBits(
        weights=weights * w_stored,
        inputs=inputs * a_stored,
        outputs=written * a_stored + written_second * w_stored + unread * UNREAD_BITS,
    )


def packed_bits() -> tuple[FloatArray, FloatArray]:
    """Widths of weights and activations on a device that packs them without gaps, [w_bits, 1] and [1, a_bits]."""
    bits = WIDTH_BITS.astype(np.float64)
    return bits[:, None], bits[None, :]


def integer_pairs() -> FloatArray:
    """Mask [w_bits, a_bits]: 1 where both widths are integers, NaN where one is float."""
    mask = np.where(WIDTH_BITS < FLOAT_BITS, 1.0, np.nan)
    return mask[:, None] * mask
