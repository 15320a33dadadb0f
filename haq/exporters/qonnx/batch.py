"""Number of items of a graph, which qonnx has to know."""

import onnx


def set_batch(graph: onnx.GraphProto, batch: int) -> None:
    """Set the number of items of all inputs and outputs.

    Args:
        graph: Graph, changed in place; stored shapes of other tensors are removed.
        batch: Number of items.
    """
    del graph.value_info[:]
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim[:1]:
            dim.dim_value = batch
