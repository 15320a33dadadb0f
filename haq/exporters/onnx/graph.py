"""The exported graph of a network, with names, metadata and equal constants stored once."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import onnx
import torch
from onnx import helper

from haq.execution.structures import to_device
from haq.exporters.deployable import Deployable
from haq.exporters.formats import NO_WEIGHTS
from haq.exporters.onnx.lowering import StoredLowering, codes_tensor
from haq.exporters.onnx.names import input_names, output_names, rename, tensor_names
from haq.exporters.onnx.narrow import IR_VERSIONS, OPSETS, NarrowCodes, Width

DISTRIBUTION = "haq"
"""Name of the installed distribution, and of the producer of files."""


@dataclass(frozen=True, slots=True)
class StoredWeight:
    """Weights of one layer in the file.

    Attributes:
        storage: Type of the stored numbers; `NO_WEIGHTS` for a product of two activations.
        bytes: Size in bytes; 0 for weights that another layer stores.
    """

    storage: str
    bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class StoredGraph:
    """Exported graph of a network.

    Attributes:
        model: The ONNX model.
        weights: Stored weights of each layer, by its name.
    """

    model: onnx.ModelProto
    weights: Mapping[str, StoredWeight]

    @property
    def opset(self) -> int:
        """Version of the operators."""
        return int(next(opset.version for opset in self.model.opset_import if opset.domain == ""))


def build_graph(network: Deployable, widths: tuple[Width, ...] = (8,)) -> StoredGraph:
    """Build the exported graph of a network.

    Args:
        network: Network with its policy.
        widths: Widths in which weights may be stored, ascending; the last is 8.

    Returns:
        The graph.

    Raises:
        UserError: The network has no ONNX graph.
    """
    template = network.template
    lowering = StoredLowering(
        template, network.quantizers, network.bits, corrections=network.corrections, widths=widths
    )
    model = lowering.model()
    with torch.no_grad():
        outputs = network.evaluated(to_device(network.example, "cpu"))
    names = tensor_names(template, input_names(network.model, network.example), output_names(outputs))
    rename(model.graph, names)
    _share_constants(model.graph)
    remove_metadata(model.graph)
    _raise_versions(model, min((stored.width for stored in lowering.stored.values()), default=8))
    describe(model, network)
    onnx.checker.check_model(model, full_check=True)
    return StoredGraph(model, dict(_weights(network, model.graph, lowering.stored)))


def _weights(
    network: Deployable, graph: onnx.GraphProto, stored: Mapping[str, NarrowCodes]
) -> Iterator[tuple[str, StoredWeight]]:
    """Yield the stored weights of each layer."""
    constants = {tensor.name for tensor in graph.initializer}
    for layer in network.trace.layers:
        codes = stored.get(layer.name)
        if not layer.has_weights:
            yield layer.name, StoredWeight(NO_WEIGHTS, 0)
        elif codes is None:
            yield layer.name, StoredWeight("float32", 4 * layer.weight_count)
        else:
            is_first = codes_tensor(layer.name) in constants
            yield layer.name, StoredWeight(f"int{codes.width}", codes.stored_bytes if is_first else 0)


def _share_constants(graph: onnx.GraphProto) -> None:
    """Store equal constants once, under the name of the first.

    Weights keep zero points of their own: with `session.x64quantprecision`, onnxruntime refuses shared ones.
    """
    first: dict[bytes, str] = {}
    kept, other = [], {}
    zero_points = _weight_zero_points(graph)
    for tensor in graph.initializer:
        if tensor.name in zero_points:
            kept.append(tensor)
            continue
        unnamed = onnx.TensorProto()
        unnamed.CopyFrom(tensor)
        unnamed.name = ""
        other[tensor.name] = first.setdefault(unnamed.SerializeToString(deterministic=True), tensor.name)
        if other[tensor.name] == tensor.name:
            kept.append(tensor)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in graph.node:
        node.input[:] = [other.get(name, name) for name in node.input]


def _weight_zero_points(graph: onnx.GraphProto) -> set[str]:
    readers = (node for node in graph.node if node.op_type == "DequantizeLinear" and len(node.input) == 3)
    int8 = {tensor.name for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    return {node.input[2] for node in readers} & int8


def remove_metadata(graph: onnx.GraphProto) -> None:
    """Remove what the exporter of torch adds for debugging, such as names of source files.

    Args:
        graph: Graph, changed in place.
    """
    for part in (*graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def _raise_versions(model: onnx.ModelProto, narrowest: Width) -> None:
    """Raise the versions of operators and file format to those that have types of the width of the weights."""
    model.ir_version = max(model.ir_version, IR_VERSIONS[narrowest])
    for opset in model.opset_import:
        if opset.domain == "":
            opset.version = max(opset.version, OPSETS[narrowest])


def describe(model: onnx.ModelProto, network: Deployable) -> None:
    """Add name, producer and metadata: the policy with its costs and accuracies, and the versions of the tools.

    Args:
        model: Model, changed in place.
        network: Network with its policy.
    """
    policy = network.policy
    model.graph.name = policy.model
    model.producer_name, model.producer_version = DISTRIBUTION, version(DISTRIBUTION)
    values: dict[str, Any] = {
        "model": policy.model,
        "hardware": policy.hardware,
        "objective": policy.objective,
        "cost": policy.cost.model_dump(mode="json"),
        "baseline_cost": policy.baseline_cost.model_dump(mode="json"),
        "accuracy": policy.accuracy,
    }
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items() if value}
    metadata = {"version": model.producer_version, **texts, "policy": policy.to_json()}
    helper.set_model_props(model, {f"{DISTRIBUTION}.{key}": text for key, text in metadata.items()})
