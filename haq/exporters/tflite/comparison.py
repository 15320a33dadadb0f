"""Comparison of the tensors of a runtime with the integer reference."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from haq.exporters.integer.network import Codes, IntegerNetwork, Product
from haq.exporters.integer.reference import run_from
from haq.exporters.protocols import LayerCodes


def compare_operations(
    network: IntegerNetwork, layers: Sequence[str], found: Iterable[Mapping[str, Codes]]
) -> Iterator[LayerCodes]:
    """Compare the output of every operation with that of the reference from the runtime's own inputs.

    Args:
        network: Network.
        layers: Names of the layers of the policy. Operations that are none, such as sums and tables, count with the
            layer before them, those at the beginning with the first.
        found: Tensors of the runtime by name, for one item after the other, with the channels last.

    Returns:
        Iterator over the layers.
    """
    compared, differing = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0)
    for item in found:
        tensors = {name: _channels_first(codes, network.tensors[name].shape) for name, codes in item.items()}
        layer = layers[0]
        for operation, (name, expected) in zip(network.operations, run_from(network, tensors), strict=True):
            if isinstance(operation, Product) and operation.layer in compared:
                layer = operation.layer
            compared[layer] += expected.size
            differing[layer] += int(np.count_nonzero(expected != tensors[name]))
    for name in layers:
        yield LayerCodes(layer=name, is_integer=True, compared=compared[name], differing=differing[name])


def _channels_first(codes: Codes, shape: tuple[int, ...]) -> Codes:
    return np.moveaxis(codes, -1, 1).reshape(1, *shape)
