"""Comparison of the codes of a runtime with the integer reference, operation by operation."""

from collections.abc import Iterator, Mapping, Sequence

from haq.exporters.integer.network import Codes, IntegerNetwork, Operation, Product, sources_of
from haq.exporters.integer.reference import run_operation
from haq.exporters.protocols import LayerCodes


def compare_operations(
    network: IntegerNetwork, found: Mapping[str, Codes], layers: Sequence[str]
) -> Iterator[LayerCodes]:
    """Compare the codes of every operation with those that the reference computes from the same input codes.

    Operations without weights count for the layer before them, and those before the first layer for the first.

    Args:
        network: Integer network.
        found: Codes by tensor, [n, ...] each; a tensor that is missing has the codes of the reference.
        layers: Names of the layers.

    Yields:
        The comparisons of all layers, in their order.
    """
    compared, differing = dict.fromkeys(layers, 0), dict.fromkeys(layers, 0)
    codes = dict(found)
    for layer, operation in _assigned(network, layers):
        expected = run_operation(operation, network.tensors, *(codes[name] for name in sources_of(operation)))
        if operation.output in found:
            compared[layer] += expected.size
            differing[layer] += int((expected != found[operation.output]).sum())
        codes.setdefault(operation.output, expected)
    for layer in layers:
        yield LayerCodes(layer=layer, is_integer=True, compared=compared[layer], differing=differing[layer])


def _assigned(network: IntegerNetwork, layers: Sequence[str]) -> Iterator[tuple[str, Operation]]:
    """Yield all operations with the layer that they count for."""
    names = set(layers)
    current = next(each.layer for each in network.operations if isinstance(each, Product) and each.layer in names)
    for operation in network.operations:
        if isinstance(operation, Product) and operation.layer in names:
            current = operation.layer
        yield current, operation
