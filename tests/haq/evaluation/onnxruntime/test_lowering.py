"""The graph of a policy gives the results of fake quantization, layer by layer and end to end."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.evaluation.engines.onnxruntime import export_marked, lower, make_template, open_session
from haq.evaluation.engines.onnxruntime.lowering import Lowering
from haq.evaluation.engines.onnxruntime.template import Template
from haq.evaluation.engines.torch import TorchEngine
from haq.network.layer_calls import LayerCalls, LayerIndex
from haq.network.layers import Trace, trace
from haq.network.models.digits_cnn import DigitsCNN
from haq.network.tracing.weighted_calls import Call
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.quantization.range import quantize
from hardware_sim.cost import Bits

IMAGES = torch.randn(8, 4, 8, 8, generator=torch.Generator().manual_seed(0))
"""Images with values of both signs, so that the first layer's input is signed."""


class Net:
    """Network with the template of its graph."""

    def __init__(self, model: nn.Module, inputs: Tensor = IMAGES) -> None:
        self.model, self.inputs = model.eval(), inputs
        self.trace: Trace = trace(model, inputs[:1])
        self.quantizers = Quantizers(model, self.trace, lambda: [inputs])
        self.quantized = QuantizedModel(model, self.trace, self.quantizers)
        self.template: Template = make_template(export_marked(model, self.trace, inputs[:1]), self.trace)

    def uniform(self, w_bits: Bits, a_bits: Bits) -> PolicyBits:
        count = len(self.trace.layers)
        return (w_bits,) * count, (a_bits,) * count

    def graph(self, bits: PolicyBits, corrections: Corrections | None = None, *, fold: bool = False) -> onnx.ModelProto:
        if not fold:
            return lower(self.template, self.quantizers, bits, corrections=corrections)
        return Lowering(
            self.template, self.quantizers, bits, corrections=corrections or Corrections(), fold=True
        ).model()

    def found(self, bits: PolicyBits, corrections: Corrections | None = None) -> Tensor:
        return torch.from_numpy(run(self.graph(bits, corrections), self.inputs)[0])

    @torch.no_grad()
    def expected(self, bits: PolicyBits, corrections: Corrections | None = None) -> Tensor:
        self.quantized.set_bits(*bits)
        self.quantized.set_corrections(corrections or Corrections())
        outputs: Tensor = self.quantized(self.inputs)
        return outputs


def scrambled(model: nn.Module) -> nn.Module:
    """Return the network with random batch norms, whose factors have both signs."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            with torch.no_grad():
                module.running_mean.normal_(generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
                if module.affine:
                    module.weight.normal_(generator=generator)
                    module.bias.normal_(generator=generator)
    return model


def run(graph: onnx.ModelProto, inputs: Tensor) -> list[np.ndarray]:
    """Return the outputs of a graph without optimizations, every node in float arithmetic."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    return outputs


def conv_norm(c_in: int, c_out: int, *, kernel: int = 1, groups: int = 1, bias: bool = False) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, kernel, groups=groups, bias=bias), nn.BatchNorm2d(c_out)]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0]  # type: ignore[no-any-return]


class Functional(nn.Module):
    """Weights used twice, once through the parent, and a ReLU output that two layers and a sum read."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm(self.conv(x)))
        total: Tensor = y + self.norm(F.conv2d(y, self.conv.weight)) + self.conv(y)
        return total


class StoredTransposed(nn.Module):
    """Linear layers whose weights are stored as [inputs, outputs], with and without a bias."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.first = nn.Parameter(torch.randn(8, 6, generator=generator))
        self.second = nn.Parameter(torch.randn(6, 5, generator=generator))
        self.bias = nn.Parameter(torch.randn(5, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        rows = F.relu(x @ self.first)
        return torch.addmm(self.bias, rows.flatten(0, 2), self.second).view(*rows.shape[:3], 5)


NETWORKS: dict[str, nn.Module] = {
    "conv and batch norm": nn.Sequential(*conv_norm(4, 6, kernel=3, bias=True), nn.ReLU(), nn.Conv2d(6, 5, 1)),
    "batch norm without weights": nn.Sequential(
        nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, affine=False), nn.Conv2d(6, 2, 1)
    ),
    "batch norm first": nn.Sequential(nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 5, 3)),
    "groups": nn.Sequential(*conv_norm(4, 8, kernel=3, groups=4), nn.Hardtanh(-0.5, 0.5), *conv_norm(8, 4)),
    "transposed": nn.Sequential(nn.ConvTranspose2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 1)),
    "transposed in groups": nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6)),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(256, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)),
    "linear on tokens": nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 5, bias=False)),
    "one dimension": nn.Sequential(nn.Flatten(2), nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6), nn.Conv1d(6, 2, 1)),
    "zero points": nn.Sequential(
        *conv_norm(4, 6, kernel=3), nn.SiLU(), nn.Conv2d(6, 8, 1), nn.LeakyReLU(), nn.Conv2d(8, 3, 1)
    ),
    "attention": Attention(),
    "pads": nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)),
        *conv_norm(4, 6, kernel=3),
        nn.SiLU(),
        nn.ZeroPad2d((1, 2, 0, 3)),
        nn.Conv2d(6, 5, 3, padding=(1, 0), stride=2),
        nn.ConstantPad1d(1, 0.5),
        nn.Conv2d(5, 3, 1),
    ),
    "functional": Functional(),
    "stored transposed": StoredTransposed(),
}


@pytest.fixture(scope="module", params=NETWORKS)
def net(request: pytest.FixtureRequest) -> Net:
    torch.default_generator.manual_seed(0)
    return Net(scrambled(NETWORKS[request.param]))


def apart(found: Tensor, expected: Tensor) -> float:
    """Return the largest difference relative to the largest output."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def test_float_graph_equals_network(net: Net) -> None:
    with torch.no_grad():
        assert apart(net.found(net.uniform(None, None)), net.model(net.inputs)) < 1e-5


@pytest.mark.parametrize("bits", [8, 5, 2])
def test_graph_with_quantized_weights_equals_torch(net: Net, bits: int) -> None:
    policy = net.uniform(bits, None)
    assert apart(net.found(policy), net.expected(policy)) < 1e-5


@pytest.mark.parametrize("bits", [8, 4])
def test_graph_with_quantized_inputs_equals_torch_except_at_ties(net: Net, bits: int) -> None:
    policy = net.uniform(None, bits)
    # A single code that falls the other way can move three of a hundred outputs.
    assert close(net.found(policy), net.expected(policy)) > 0.9


def close(found: Tensor, expected: Tensor) -> float:
    """Return the share of outputs that agree to 1e-4 of the largest."""
    return ((found - expected).abs() <= 1e-4 * expected.abs().max()).float().mean().item()


def test_fully_quantized_graph_equals_torch_up_to_bias_rounding(net: Net) -> None:
    policy = net.uniform(8, 8)
    assert apart(net.found(policy), net.expected(policy)) < 0.03


@pytest.mark.parametrize(("w_bits", "a_bits"), [(8, 8), (3, 4), (5, None)])
def test_folding_keeps_outputs_bit_for_bit(net: Net, w_bits: int, a_bits: Bits) -> None:
    policy = net.uniform(w_bits, a_bits)
    folded, whole = (run(net.graph(policy, fold=fold), net.inputs)[0] for fold in (True, False))
    assert np.array_equal(folded, whole)


def test_corrected_graph_equals_torch(net: Net) -> None:
    policy = net.uniform(3, None)
    net.quantized.set_bits(*policy)
    corrections = TorchEngine(net.quantized, net.inputs).corrections(policy)
    assert corrections.biases or corrections.statistics
    corrected = net.expected(policy, corrections)
    assert apart(net.found(policy, corrections), corrected) < 1e-5
    assert apart(corrected, net.expected(policy)) > 1e-3


@pytest.fixture(scope="module")
def digits() -> Net:
    torch.default_generator.manual_seed(0)
    return Net(scrambled(DigitsCNN()), torch.rand(16, 1, 16, 16, generator=torch.Generator().manual_seed(2)))


def mixed(net: Net) -> PolicyBits:
    """Return bits with every width from 2 to 8, for weights and for inputs."""
    layers = range(len(net.trace.layers))
    return tuple(2 + layer % 7 for layer in layers), tuple(2 + (layer + 3) % 7 for layer in layers)


def fused(net: Net, policy: PolicyBits, folder: Path) -> Counter[str]:
    """Return the operators of the graph that onnxruntime runs."""
    path = folder / "optimized.onnx"
    open_session(net.graph(policy, fold=True).SerializeToString(), threads=1, optimized=str(path))
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)


@pytest.mark.parametrize("kind", ["8 bits", "mixed"])
def test_convolutions_with_quantized_output_use_integer_kernels(digits: Net, kind: str, tmp_path: Path) -> None:
    found = fused(digits, digits.uniform(8, 8) if kind == "8 bits" else mixed(digits), tmp_path)
    # The others are read by a sum or by the pooling: two end a block with a shortcut, two write what a shortcut reads.
    assert found["QLinearConv"] == 9
    assert found["QGemm"] == 1


def test_float_layers_use_float_kernels(digits: Net, tmp_path: Path) -> None:
    assert fused(digits, digits.uniform(None, None), tmp_path)["Conv"] == 14
    operators = {node.op_type for node in digits.graph(digits.uniform(8, None)).graph.node}
    assert "QuantizeLinear" not in operators
    assert "DequantizeLinear" in operators


def test_codes_equal_torch_up_to_rounding(digits: Net) -> None:
    policy = mixed(digits)
    expected = input_codes(digits, policy)
    graph = digits.graph(policy)
    written = {name for node in graph.graph.node for name in node.output}
    names = [f"{layer.name}.input" for layer in digits.trace.layers]
    codes = [f"{name}.codes" if f"{name}.codes" in written else f"{name}.rounded" for name in names]
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in codes)
    found = zip(run(graph, digits.inputs)[1:], expected, strict=True)
    differing = [float((codes.astype(int) - offset != torchs.numpy()).mean()) for codes, (torchs, offset) in found]
    assert differing[0] < 0.001
    assert max(differing[:5]) < 0.01


def input_codes(net: Net, policy: PolicyBits) -> list[tuple[Tensor, int]]:
    """Return the input codes of every layer in torch, and the offset of the stored codes."""
    net.quantized.set_bits(*policy)
    found: list[tuple[Tensor, int]] = []

    def watch(layer: int, call: Call) -> Tensor:
        quantizer = net.quantizers.activation(layer, policy[1][layer] or 8)
        assert quantizer is not None
        scale = torch.tensor(quantizer.scale)
        codes = quantize(call.input, scale, quantizer.zero_point, quantizer.q_min, quantizer.q_max)
        found.append((codes, 128 if quantizer.signed else 0))
        return net.quantized.quantized(layer, call)

    with torch.no_grad(), LayerCalls(LayerIndex(net.model, net.trace.sites), watch):
        net.model(net.inputs)
    return found


def test_graph_is_standard_onnx(digits: Net) -> None:
    graph = digits.graph(mixed(digits))
    onnx.checker.check_model(graph, full_check=True)
    assert [opset.domain for opset in graph.opset_import] == [""]


def test_batch_norm_of_scale_zero_keeps_offset() -> None:
    norm = nn.BatchNorm2d(6)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([0.0, 1e-12, 1.0, -1.0, 0.0, 1e-7]))
        norm.bias.fill_(1.0)
    net = Net(nn.Sequential(nn.Conv2d(4, 6, 1), norm, nn.ReLU(), nn.Conv2d(6, 3, 1)))
    assert apart(net.found(net.uniform(8, 8)), net.expected(net.uniform(8, 8))) < 0.03


def test_convolution_after_pooling_uses_integer_kernel(tmp_path: Path) -> None:
    net = Net(nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 2, 1)))
    found = fused(net, net.uniform(4, 4), tmp_path)
    assert (found["QLinearConv"], found["Conv"]) == (1, 1)


class Padded(nn.Module):
    """Convolutions of images that are padded as TensorFlow pads them, with zeros after the last row and column."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise, self.last = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, 2, groups=8), nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self.stem(F.pad(x, (0, 0, 0, 0))))
        x = F.relu6(self.depthwise(F.pad(x, (0, 1, 0, 1))))
        logits: Tensor = self.last(x)
        return logits


def test_convolutions_of_padded_images_use_integer_kernels(tmp_path: Path) -> None:
    net = Net(Padded())
    policy = net.uniform(4, 8)
    found = fused(net, policy, tmp_path)
    assert (found["QLinearConv"], found["Conv"], found["Pad"]) == (2, 1, 0)
    assert apart(opened(net, policy), net.expected(policy)) < 0.01


@pytest.mark.parametrize(
    "pad",
    [
        lambda x: F.pad(x, (0, 1, 0, 1), value=1.0),
        lambda x: F.pad(x, (0, 1, 0, 1), mode="reflect"),
        lambda x: F.pad(x, (0, 0, 0, 0, 0, 4)),
        lambda x: F.pad(x, (-1, 0, 0, 0)),
    ],
    ids=["ones", "reflection", "channels", "crop"],
)
def test_other_pads_stay_nodes_of_their_own(pad: Callable[[Tensor], Tensor]) -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(pad(IMAGES).shape[1], 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(pad(x))  # type: ignore[no-any-return]

    net = Net(Network())
    policy = net.uniform(8, 8)
    assert apart(net.found(policy), net.expected(policy)) < 0.01


def test_a_pad_that_something_else_reads_stays() -> None:
    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            padded = F.pad(x, (1, 1, 1, 1))
            return padded + self.conv(padded)  # type: ignore[no-any-return]

    net = Net(Network())
    policy = net.uniform(8, 8)
    assert [node.op_type for node in net.template.nodes].count("Pad") == 1
    assert apart(net.found(policy), net.expected(policy)) < 0.01


def test_linear_layers_on_tokens_use_integer_kernels(tmp_path: Path) -> None:
    net = Net(nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 5)))
    assert fused(net, net.uniform(6, 6), tmp_path)["MatMulIntegerToFloat"] == 2


class Fork(nn.Module):
    """A convolution that two others read."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        total: Tensor = self.left(x) + self.right(x)
        return total


def test_a_convolution_that_several_layers_read_uses_an_integer_kernel_with_its_codes(tmp_path: Path) -> None:
    net = Net(Fork())
    policy = net.uniform(4, 8)
    assert fused(net, policy, tmp_path)["QLinearConv"] == 1
    assert apart(opened(net, policy), net.expected(policy)) < 0.01


def test_weights_of_transposed_convolutions_keep_a_scale_for_every_channel() -> None:
    net = Net(nn.Sequential(nn.Conv2d(4, 6, 1), nn.ReLU(), nn.ConvTranspose2d(6, 6, 2), nn.ReLU(), nn.Conv2d(6, 3, 1)))
    with torch.no_grad():
        net.model[2].weight[:, 0] *= 100  # type: ignore[index, operator]
    net = Net(net.model)
    policy = net.uniform(8, 8)
    assert apart(opened(net, policy), net.expected(policy)) < 0.01


def test_float_inputs_of_linear_layers_are_not_quantized(tmp_path: Path) -> None:
    net = Net(nn.Sequential(nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 5)))
    assert set(fused(net, net.uniform(8, None), tmp_path)) & {"MatMulNBits", "DynamicQuantizeMatMul"} == set()


def opened(net: Net, policy: PolicyBits) -> Tensor:
    """Return the outputs of a policy with all optimizations of onnxruntime."""
    session = open_session(net.graph(policy, fold=True).SerializeToString(), threads=1)
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: net.inputs.numpy()})[0])
