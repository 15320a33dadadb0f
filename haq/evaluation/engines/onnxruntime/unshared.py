"""Graphs in which every integer kernel has weights and zero points of its own.

On processors without VNNI instructions onnxruntime converts int8 constants to uint8 ones that it names after them, one
for each kernel. It refuses a graph in which two kernels read the same constant: the names would be equal.
"""

from collections.abc import Iterator, Mapping

import onnx

_OPERATOR = "DequantizeLinear"


def without_shared_codes(graph: bytes) -> bytes:
    """Copy int8 constants, and what dequantizes them, for every reader after the first.

    Args:
        graph: Serialized ONNX model.

    Returns:
        A serialized model that computes the same.
    """
    model = onnx.load_model_from_string(graph)
    _unshare_results(model.graph)
    _unshare_constants(model.graph)
    return bytes(model.SerializeToString())


def _codes(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    return {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8}


def _dequantizers(graph: onnx.GraphProto, codes: Mapping[str, onnx.TensorProto]) -> Iterator[onnx.NodeProto]:
    return (node for node in graph.node if node.op_type == _OPERATOR and node.input[0] in codes)


def _unshare_results(graph: onnx.GraphProto) -> None:
    """Give every reader of dequantized constants a DequantizeLinear of its own."""
    dequantizers = {node.output[0]: node for node in _dequantizers(graph, _codes(graph))}
    read: dict[str, int] = dict.fromkeys(dequantizers, 0)
    nodes = []
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name not in dequantizers:
                continue
            read[name] += 1
            if read[name] > 1:
                copy = onnx.NodeProto()
                copy.CopyFrom(dequantizers[name])
                copy.name = copy.output[0] = node.input[place] = f"{name}:reader{read[name]}"
                nodes.append(copy)
        nodes.append(node)
    ordered = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(ordered)


def _unshare_constants(graph: onnx.GraphProto) -> None:
    """Give every DequantizeLinear of constants codes and zero points of its own."""
    codes = _codes(graph)
    read = dict.fromkeys(codes, 0)
    for node in _dequantizers(graph, codes):
        for place, name in enumerate(node.input):
            if name not in codes:
                continue
            read[name] += 1
            if read[name] > 1:
                copy = graph.initializer.add()
                copy.CopyFrom(codes[name])
                copy.name = node.input[place] = f"{name}:reader{read[name]}"
