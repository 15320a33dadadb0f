"""QONNX files: Quant nodes of the true widths, exact grids, qonnx's own costs, and what FPGA tools refuse."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from haq.config import search_config
from haq.errors import UserError
from haq.experiment.artifact import load_artifact
from haq.experiment.inputs import Inputs
from haq.experiment.target_quantizers import are_powers_of_two
from haq.exporters.agreement import compare_outputs
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.formats import ExportOptions
from haq.exporters.qonnx.exporter import QonnxExporter, build_graph
from haq.exporters.qonnx.lowering import activation_grid, weight_grid
from haq.exporters.qonnx.runtime import QonnxRuntime
from haq.exporters.qonnx.toolchains import obstacles
from haq.layer_bits import uniform_bits
from haq.network.layers import trace_layers
from haq.network.models.cifar_resnet import CifarResNet
from haq.policy import Policy
from haq.quantization.linear import QuantizerParameters, quantize_weight
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit

Prepare = Callable[..., Deployable]


@pytest.fixture
def prepared(tiny_task: ClassificationTask) -> Prepare:
    """Makes a network ready to be exported."""

    def make(model: nn.Module, bits: tuple[int | None, ...], **settings: object) -> Deployable:
        layers = trace_layers(model, tiny_task.example())
        w_bits = (bits * len(layers))[: len(layers)]
        mixed = tuple(
            uniform_bits((layer,), w_bits=w, a_bits=a)[0]
            for layer, w, a in zip(layers, w_bits, reversed(w_bits), strict=True)
        )
        policy = Policy(model="net", hardware="bismo-edge", objective="size", layers=mixed)
        config = search_config(hardware="bismo-edge", engine="torch", **settings)
        return make_deployable(load_artifact(policy, config, inputs=Inputs(model, tiny_task)))

    return make


def quant(values: np.ndarray, grid: object) -> np.ndarray:
    """What qonnx computes for a Quant node."""
    pytest.importorskip("qonnx")
    from qonnx.custom_op.general.quant import quant as computed

    bits, zero_point = np.float32(grid.bits), np.float32(grid.zero_point)  # type: ignore[attr-defined]
    signed, narrow = grid.signed, grid.narrow  # type: ignore[attr-defined]
    return computed(values, grid.scale, zero_point, bits, signed, narrow, "ROUND")  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("bits", range(1, 9))
def test_quant_leaves_weights_with_a_folded_batch_norm_as_they_are(bits: int) -> None:
    weight = quantize_weight(torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(bits)), bits)
    factor = np.array([1.0, -0.3, 0.0, 2.5, -1e-20, 1e-35])
    values, grid = weight_grid(weight, factor)
    assert np.allclose(values, weight.dequantize().numpy() * factor[:, None, None, None], rtol=1e-6, atol=1e-27)
    assert (quant(values, grid) == values).all()
    assert grid.bits == bits


@pytest.mark.parametrize(
    ("signed", "bits", "zero_point"),
    [(True, 8, 0), (True, 8, -12), (True, 5, 7), (False, 3, 0), (True, 1, 0), (True, 1, -1), (False, 1, 0)],
)
def test_quant_computes_the_values_of_an_input_quantizer(signed: bool, bits: int, zero_point: int) -> None:
    low = -(1 << bits - 1) if signed else 0
    quantizer = QuantizerParameters(
        bits=bits, signed=signed, scale=0.125, zero_point=zero_point, q_min=low, q_max=low + (1 << bits) - 1
    )
    x = np.linspace(-20, 20, 997, dtype=np.float32)
    codes = np.clip(np.rint(x / np.float32(0.125)) + zero_point, quantizer.q_min, quantizer.q_max)
    assert (quant(x, activation_grid(quantizer, "layer")) == (codes - zero_point) * np.float32(0.125)).all()


def test_codes_that_do_not_fill_their_bits_are_refused() -> None:
    quantizer = QuantizerParameters(bits=4, signed=True, scale=1.0, zero_point=0, q_min=-7, q_max=7)
    with pytest.raises(UserError, match=r"codes of conv\.input are -7\.\.7; a Quant node takes -8\.\.7"):
        activation_grid(quantizer, "conv.input")


def test_every_convolution_has_all_attributes_and_every_quantizer_its_width(deployable: Deployable) -> None:
    model = build_graph(deployable)
    onnx.checker.check_model(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    widths = {node.output[0]: int(constants[node.input[3]]) for node in model.graph.node if node.op_type == "Quant"}
    for layer in deployable.policy.layers:
        assert widths[f"{layer.name}.weight"] == layer.w_bits
        assert widths[f"{layer.name}.input"] == layer.a_bits
    for node in model.graph.node:
        if node.op_type == "Conv":
            names = {attribute.name for attribute in node.attribute}
            assert names >= {"kernel_shape", "strides", "dilations", "pads", "group"}


class Mixed(nn.Module):
    """SiLU, a pooled branch, a transposed convolution, and a matrix product of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.mix, self.up = nn.Conv2d(8, 8, 1, bias=False), nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.tokens, self.head = nn.Linear(4, 6), nn.Linear(6, 4)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.silu(self.norm(self.conv(x)))
        x = self.up(nn.functional.max_pool2d(x + self.mix(x), 2))
        scores: Tensor = self.head(torch.relu(self.tokens(x.flatten(2).transpose(1, 2))).mean(dim=1))
        return scores


@pytest.mark.parametrize("bits", [(8,), (3, 5, 2), (1, 4), (None, 8)], ids=str)
def test_qonnx_computes_the_codes_of_the_quantized_network(bits: tuple[int | None, ...], prepared: Prepare) -> None:
    if (missing := QonnxRuntime().missing()) is not None:
        pytest.skip(missing)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        network = prepared(Mixed().eval(), bits)
    export, runtime, inputs = QonnxExporter().build(network, ExportOptions()), QonnxRuntime(), network.check_inputs(8)
    layers = list(runtime.layer_codes(export, network, inputs))
    assert sum(layer.compared for layer in layers) > 0
    assert {layer.layer: layer.differing for layer in layers if layer.differing} == {}
    with torch.no_grad():
        found = runtime.runner(export, network)(inputs)
        assert compare_outputs(network.network.task, found, network.evaluated(inputs)).noise < 0.02


def test_layer_codes_find_a_wrong_scale(deployable: Deployable) -> None:
    if (missing := QonnxRuntime().missing()) is not None:
        pytest.skip(missing)
    model, name = build_graph(deployable), deployable.policy.layers[3].name
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == f"{name}.weight.scale")
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(1.3), scale.name))
    export = QonnxExporter().build(deployable, ExportOptions())
    changed = type(export)(
        format="qonnx", files={".onnx": model.SerializeToString()}, bits=export.bits, layers=export.layers
    )
    layers = list(QonnxRuntime().layer_codes(changed, deployable, deployable.check_inputs(4)))
    assert next(layer.layer for layer in layers if layer.differing) == deployable.policy.layers[4].name


def costs_of_qonnx(network: Deployable) -> list[dict[str, float]]:
    """qonnx's own costs of the layers, in order."""
    pytest.importorskip("qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.util.inference_cost import inference_cost

    model = ModelWrapper(build_graph(network))
    return list(inference_cost(model, discount_sparsity=False, cost_breakdown=True)["node_cost"].values())


@pytest.mark.parametrize("name", ["digits", "resnet"])
def test_bops_and_memory_are_those_that_qonnx_counts(
    name: str, deployable: Deployable, rgb_task: ClassificationTask
) -> None:
    network = deployable if name == "digits" else _resnet((8, 3, 5, 2, 7, 4, 6), rgb_task)
    for place, (layer, cost) in enumerate(zip(network.trace.layers, costs_of_qonnx(network), strict=True)):
        w_bits, a_bits = network.bits[0][place], network.bits[1][place]
        assert w_bits is not None
        assert a_bits is not None
        quantizer = network.quantizers.activation(place, a_bits)
        assert quantizer is not None
        counted_bits = 32 if quantizer.zero_point else a_bits  # qonnx knows no integers with zero points
        assert cost["total_macs"] == layer.macs
        assert cost["total_bops"] == layer.macs * w_bits * counted_bits
        assert cost["total_mem_w_bits"] == layer.weight_count * w_bits


class Noise:
    """Random images [3, 16, 16] of ten classes."""

    def __init__(self, seed: int) -> None:
        self.images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int, /) -> tuple[Tensor, int]:
        return self.images[index], index


@pytest.fixture
def rgb_task(tiny_task: ClassificationTask) -> ClassificationTask:
    """Eight random images for each of calibration, search and report."""
    splits = {name: StoredSplit(Noise(seed)) for seed, name in enumerate(tiny_task.splits)}
    return replace(tiny_task, splits=splits, num_classes=10)


def _resnet(bits: tuple[int, ...], task: ClassificationTask) -> Deployable:
    model = CifarResNet(8).eval()
    layers = trace_layers(model, task.example())
    mixed = tuple(
        uniform_bits((layer,), w_bits=bits[n % len(bits)], a_bits=bits[-1 - n % len(bits)])[0]
        for n, layer in enumerate(layers)
    )
    policy = Policy(model="net", hardware="bismo-edge", objective="size", layers=mixed)
    config = search_config(hardware="bismo-edge", engine="torch", zero_points="none")
    return make_deployable(load_artifact(policy, config, inputs=Inputs(model, task)))


def test_finn_refuses_zero_points_in_one_line(prepared: Prepare) -> None:
    network = prepared(Mixed().eval(), (8,))
    with pytest.raises(UserError, match=r"--for finn: \S+ (has the zero point|is conv_transpose)"):
        QonnxExporter().build(network, ExportOptions(toolchain="finn"))
    export = QonnxExporter().build(network, ExportOptions())
    assert any(note.startswith("finn cannot take it") for note in export.notes)


def test_finn_takes_a_network_without_zero_points(tiny_net: nn.Module, prepared: Prepare) -> None:
    export = QonnxExporter().build(prepared(tiny_net, (4,), zero_points="none"), ExportOptions(toolchain="finn"))
    assert "finn: nothing known against it" in export.notes


def test_hls4ml_refuses_scales_that_are_no_powers_of_two(tiny_net: nn.Module, prepared: Prepare) -> None:
    with pytest.raises(UserError, match=r"conv has the input scale \S+, no power of two; search with --deploy"):
        QonnxExporter().build(prepared(tiny_net, (4,), zero_points="none"), ExportOptions(toolchain="hls4ml"))


def test_hls4ml_takes_batch_norms_behind_weights_at_powers_of_two(prepared: Prepare) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        network = prepared(Mixed().eval(), (4, 6), deploy="hls4ml")
    export = QonnxExporter().build(network, ExportOptions(toolchain="hls4ml"))
    model = onnx.load_model_from_string(export.main)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    assert are_powers_of_two(torch.tensor(constants["conv.weight.scale"]))
    assert len(set(constants["conv.weight.scale"].flat)) == 1
    (norm,) = (node for node in model.graph.node if node.op_type == "BatchNormalization")
    assert norm.output == ["conv.output"]
    if (missing := QonnxRuntime().missing()) is not None:
        pytest.skip(missing)
    inputs = network.check_inputs(8)
    layers = list(QonnxRuntime().layer_codes(export, network, inputs))
    assert sum(layer.compared for layer in layers) > 0
    assert {layer.layer: layer.differing for layer in layers if layer.differing} == {}
    with torch.no_grad():
        found = QonnxRuntime().runner(export, network)(inputs)
        assert compare_outputs(network.network.task, found, network.evaluated(inputs)).noise < 0.02


def test_hls4ml_refuses_a_scale_for_each_channel(prepared: Prepare) -> None:
    network = prepared(Mixed().eval(), (4,), deploy="hls4ml")
    codes = network.quantizers.codes(0, 4)
    apart = replace(codes, scale=codes.scale * 2.0 ** torch.arange(len(codes.scale)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network.quantizers, "codes", lambda *_: apart)
        assert "conv has a weight scale for each channel, not one" in next(obstacles(network, "hls4ml"))


def test_the_operator_is_the_one_that_tools_look_for(deployable: Deployable) -> None:
    model = build_graph(deployable)
    found = {(node.op_type, node.domain) for node in model.graph.node if node.domain}
    assert found == {("Quant", "qonnx.custom_op.general")}
    assert helper.make_opsetid("qonnx.custom_op.general", 1) in model.opset_import
