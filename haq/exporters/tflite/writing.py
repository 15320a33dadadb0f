"""Writing of an integer network as a TFLite file."""

from dataclasses import dataclass

from haq.exporters.formats import ExportedLayer
from haq.exporters.integer.network import (
    Concatenation,
    Elementwise,
    IntegerNetwork,
    Operation,
    Pool,
    Product,
    Rearrangement,
)
from haq.exporters.tflite.graph import Graph
from haq.exporters.tflite.operators import write_concatenation, write_elementwise, write_pool, write_rearrangement
from haq.exporters.tflite.products import fit_to_storage, write_product
from haq.exporters.tflite.tables import write_table


@dataclass(frozen=True, slots=True, eq=False)
class TfliteModel:
    """File of a network.

    Attributes:
        content: Content of the file.
        network: Network that the file computes: the given one, with biases as its weights are stored.
        layers: Layers in the order of execution.
        indices: Index in the file for each tensor of the integer network.
    """

    content: bytes
    network: IntegerNetwork
    layers: tuple[ExportedLayer, ...]
    indices: dict[str, int]


def write_model(network: IntegerNetwork, *, lookup_tables: bool) -> TfliteModel:
    """Write an integer network as a TFLite file, with int8 input and output, for single images.

    Args:
        network: Network whose tensors have 8 bits.
        lookup_tables: Whether weights may be stored as lookup tables, which only TensorFlow Lite Micro decodes.

    Returns:
        The file.

    Raises:
        UserError: TFLite has no operator for an operation, or ai-edge-litert is missing.
    """
    network = fit_to_storage(network, lookup_tables=lookup_tables)
    graph = Graph(network, lookup_tables)
    source = _write_input(graph)
    for operation in network.operations:
        _write(graph, operation)
    content = graph.writer.finish(network.name, source, _write_output(graph))
    return TfliteModel(content, network, tuple(graph.layers.values()), graph.indices)


def _write(graph: Graph, operation: Operation) -> None:
    match operation:
        case Product():
            write_product(graph, operation)
        case Elementwise():
            write_elementwise(graph, operation)
        case Pool():
            write_pool(graph, operation)
        case Concatenation():
            write_concatenation(graph, operation)
        case Rearrangement():
            write_rearrangement(graph, operation)
        case _:
            write_table(graph, operation)


def _write_input(graph: Graph) -> int:
    """Write the input; a vector of [1, channels] is made an image of one pixel."""
    tensor = graph.network.tensors[graph.network.input]
    index = graph.output(tensor.name)
    if len(tensor.shape) > 1:
        return index
    vector = graph.intermediate(tensor, (1, *tensor.shape), ".vector")
    graph.reshape(vector, index, (-1, 1, 1, *tensor.shape))
    return vector


def _write_output(graph: Graph) -> int:
    """Write the output; an image of one pixel is made a vector of [1, channels]."""
    tensor = graph.network.tensors[graph.network.output]
    index = graph.indices[tensor.name]
    if len(tensor.shape) > 1:
        return index
    vector = graph.intermediate(tensor, (1, *tensor.shape), ".vector")
    graph.reshape(index, vector, (-1, *tensor.shape))
    return vector
