"""Graph cut at the quantized inputs of its layers, so that each layer is computed from an input that is fed."""

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper

from haq.exporters.deployable import Deployable
from haq.exporters.qonnx.layer_inputs import LayerInput


def cut_at_inputs(
    model: onnx.ModelProto, network: Deployable, inputs: Mapping[int, LayerInput]
) -> tuple[onnx.ModelProto, dict[int, str]]:
    """Cut a graph at the inputs of its layers.

    Args:
        model: Graph in which the quantized input of a layer is the tensor `LAYER.input`.
        network: Network with its policy.
        inputs: Inputs of the layers by position, which give the shapes.

    Returns:
        A copy with the outputs `LAYER.input`, whose layers read the inputs `LAYER.input.given`; and the names of these
        inputs by position of the layer.
    """
    cut = onnx.ModelProto()
    cut.CopyFrom(model)
    names = {f"{network.policy.layers[layer].name}.input": layer for layer in inputs}
    for node in cut.graph.node:
        node.input[:] = [f"{name}.given" if name in names else name for name in node.input]
    for name, layer in names.items():
        shape = list(inputs[layer].exact.shape)
        cut.graph.input.append(helper.make_tensor_value_info(f"{name}.given", TensorProto.FLOAT, shape))
        cut.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    return cut, {layer: f"{name}.given" for name, layer in names.items()}
