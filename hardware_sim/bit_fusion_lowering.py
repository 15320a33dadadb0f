"""Lowering of layers to loop nests of BitFusion, with the results that are written to memory while they run."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Literal, NamedTuple

from hardware_sim.bit_fusion_nest import Nest
from hardware_sim.layer import Layer, LayerKind
from hardware_sim.lowering import lookup_count
from hardware_sim.traffic import UNREAD_BITS, moved_elements

Groups = Literal["one-by-one", "shared"]


class WriteBack(NamedTuple):
    """Results written to memory in a layer's row.

    Attributes:
        written: Elements of the tensors that the layer is the first to read as its input.
        written_second: Elements of the tensors that it is the first to read as its second operand.
        unread: Elements of its own output, if no layer reads it.
    """

    written: int = 0
    written_second: int = 0
    unread: int = 0

    def bits(self, w_bits: int, a_bits: int) -> int:
        """Compute the size of the results.

        Args:
            w_bits: Bits of the layer's second operand, at which the tensors are stored that only this one reads.
            a_bits: Bits of the layer's input activations, at which the other tensors that it reads are stored.

        Returns:
            Number of bits.
        """
        return self.written_second * w_bits + self.written * a_bits + self.unread * UNREAD_BITS


class Call(NamedTuple):
    """`repeats` equal loop nests, one after the other; without a nest, weights are copied from memory to memory."""

    repeats: int
    nest: Nest | None
    copied: int = 0
    write_back: WriteBack = WriteBack()


def lower(layers: Sequence[Layer], batch: int, *, columns: int, groups: Groups) -> tuple[Call, ...]:
    """Lower layers to calls of an array; `BitFusion` documents the rules.

    Args:
        layers: Layers in the order of execution.
        batch: Number of images.
        columns: Columns of the array.
        groups: How grouped convolutions run.

    Returns:
        One call per layer.
    """
    elements = moved_elements(layers, batch)
    parts = zip(elements.written, elements.written_second, elements.unread, strict=True)
    write_back = (WriteBack(*map(int, counts)) for counts in parts)
    first = _reads_network_input(layers)
    return tuple(
        _call(layer, batch, columns=columns, groups=groups, unrolls=unrolls)._replace(write_back=writes)
        for layer, unrolls, writes in zip(layers, first, write_back, strict=True)
    )


def _call(layer: Layer, batch: int, *, columns: int, groups: Groups, unrolls: bool) -> Call:
    if layer.kind == "embedding":
        return Call(1, None, copied=lookup_count(layer, batch))
    repeats, nest = LOWERINGS[layer.kind](layer, batch)
    if nest.shared_c_out == nest.c_out:
        is_unrolled = unrolls and layer.kind == "conv"
        return Call(repeats, nest._replace(taps="unrolled") if is_unrolled else nest)
    if groups == "shared" and nest.shared_c_out < columns:
        return Call(repeats, nest._replace(taps="rows"))
    return Call(repeats * layer.groups, nest._replace(c_out=nest.shared_c_out))


def _reads_network_input(layers: Sequence[Layer]) -> list[bool]:
    """Check for every layer whether no layer wrote its input.

    Without tensor numbers this is known of the first layer only.
    """
    written = {layer.output_tensor for layer in layers}
    return [
        index == 0 or (bool(layer.input_tensors) and written.isdisjoint(layer.input_tensors))
        for index, layer in enumerate(layers)
    ]


def _conv(layer: Layer, batch: int) -> tuple[int, Nest]:
    nest = _plain(layer, batch)
    return 1, nest._replace(
        output_size=layer.output_size,
        input_size=layer.input_size,
        kernel=layer.kernel,
        stride=layer.stride,
        dilation=layer.dilation,
    )


def _conv_transpose(layer: Layer, batch: int) -> tuple[int, Nest]:
    nest, taps = _plain(layer, batch), prod(layer.kernel)
    return 1, nest._replace(
        output_size=layer.input_size,
        input_size=layer.input_size,
        c_out=taps * nest.c_out,
        shared_c_out=taps * nest.shared_c_out,
    )


def _linear(layer: Layer, batch: int) -> tuple[int, Nest]:
    return 1, _plain(layer, batch * prod(layer.output_size))


def _matmul(layer: Layer, batch: int) -> tuple[int, Nest]:
    nest = _plain(layer, prod(layer.output_size))
    return batch * layer.groups, nest._replace(c_out=nest.shared_c_out)


def _recurrent(layer: Layer, batch: int) -> tuple[int, Nest]:
    return prod(layer.output_size), _plain(layer, batch)


def _plain(layer: Layer, batch: int) -> Nest:
    shared_c_out = layer.c_out // layer.groups
    return Nest(batch=batch, c_in=layer.c_in // layer.groups, c_out=layer.c_out, shared_c_out=shared_c_out)


LOWERINGS: dict[LayerKind, Callable[[Layer, int], tuple[int, Nest]]] = {
    "conv": _conv,
    "depthwise": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "matmul": _matmul,
    "recurrent": _recurrent,
}
