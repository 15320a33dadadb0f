"""Integer networks of networks with layers, compared with the networks that the search evaluates."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime import export_marked, make_template
from haq.exporters.integer.lowering import lower_to_integers
from haq.exporters.integer.network import (
    Concatenation,
    Elementwise,
    IntegerNetwork,
    Pool,
    Product,
    Rearrangement,
    sources_of,
)
from haq.exporters.integer.reference import run, run_codes
from haq.network.layers import trace
from haq.network.models.cifar_resnet import CifarResNet
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers

IMAGES = 24


class Case:
    """A network with random weights, exported once."""

    def __init__(self, make: Callable[[], nn.Module], *, size: Sequence[int]) -> None:
        torch.manual_seed(0)
        self.model = settle(make(), torch.randn(IMAGES, *size))
        self.images = torch.randn(IMAGES, *size)
        self.trace = trace(self.model, self.images[:1])
        self.quantizers = Quantizers(self.model, self.trace, lambda: [self.images])
        self.template = make_template(export_marked(self.model, self.trace, self.images[:1]), self.trace)

    def uniform(self, bits: int) -> PolicyBits:
        layers = len(self.trace.layers)
        return (bits,) * layers, (bits,) * layers

    def lower(self, bits: PolicyBits) -> IntegerNetwork:
        batches = [self.images]
        return lower_to_integers(self.template, self.quantizers, bits, corrections=Corrections(), batches=batches)

    def error(self, bits: PolicyBits) -> float:
        """Mean squared difference to the quantized network, relative to the variance of its outputs."""
        quantized = QuantizedModel(self.model, self.trace, self.quantizers)
        quantized.set_bits(*bits)
        with torch.no_grad():
            expected = quantized(self.images).numpy()
        return float(((run(self.lower(bits), self.images.numpy()) - expected) ** 2).mean() / expected.var())


def settle(model: nn.Module, images: Tensor) -> nn.Module:
    """Give batch norms random parameters, some of them negative, and the statistics of some images."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
            with torch.no_grad():
                module.weight[::3] *= -1
    with torch.no_grad():
        model.train()(images)
    return model.eval()


def conv(c_in: int, c_out: int, kernel: int = 3, **options: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(c_in, c_out, kernel, bias=False, **options), nn.BatchNorm2d(c_out))  # type: ignore[arg-type]


class Everything(nn.Module):
    """The structures that networks for images have, one after another."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.residual = conv(3, 8, padding=1), conv(8, 8, padding=1)
        self.before, self.strided = nn.BatchNorm2d(8), conv(8, 8, stride=2)
        self.depthwise, self.down, self.up = conv(8, 8, padding=1, groups=8), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.grouped, self.hidden, self.last = conv(16, 8, groups=2), nn.Linear(8, 12), nn.Linear(12, 5)
        self.vectors = nn.BatchNorm1d(12)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first((x - 0.1) / 0.5))
        x = F.relu(x + self.residual(x))
        x = F.relu(self.before(x))
        x = F.relu6(self.strided(F.pad(x, (0, 1, 0, 1))))
        x = F.silu(self.depthwise(x))
        x = x * torch.sigmoid(self.up(F.silu(self.down(x.mean((2, 3), keepdim=True)))))
        x = torch.cat([F.hardswish(x), F.leaky_relu(x)], 1)
        x = F.relu(self.grouped(F.max_pool2d(x, 2, 1)))
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        logits: Tensor = self.last(self.vectors(F.relu(self.hidden(x))))
        return logits


@pytest.fixture(scope="module")
def everything() -> Case:
    return Case(Everything, size=(3, 12, 12))


@pytest.fixture(scope="module")
def resnet() -> Case:
    return Case(lambda: CifarResNet(8), size=(3, 8, 8))


@pytest.mark.parametrize(("bits", "error"), [(8, 0.05), (6, 0.3)])
def test_an_integer_network_computes_about_what_the_quantized_network_does(
    everything: Case, bits: int, error: float
) -> None:
    assert everything.error(everything.uniform(bits)) < error


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_every_tensor_is_written_once_in_its_shape_range_and_grid(everything: Case, bits: int) -> None:
    network = everything.lower(everything.uniform(bits))
    written = {network.input}
    for operation in network.operations:
        assert written.issuperset(sources_of(operation))
        assert operation.output not in written
        written.add(operation.output)
        tensors = [network.tensors[name] for name in (*sources_of(operation), operation.output)]
        if isinstance(operation, Pool | Concatenation | Rearrangement):
            assert len({(tensor.scale, tensor.zero_point, tensor.q_min, tensor.q_max) for tensor in tensors}) == 1
        if isinstance(operation, Elementwise):
            assert all(tensor.q_max - tensor.q_min == 255 for tensor in tensors[:2])
        if isinstance(operation, Product):
            assert (operation.w_scale.astype(np.float32) == operation.w_scale).all()
            assert np.abs(operation.weights.astype(int)).max() <= max(
                2 ** (operation.w_bits - 1) - (operation.w_bits > 3), 1
            )
    assert written == set(network.tensors)
    for name, found in run_codes(network, everything.images[:2].numpy()).items():
        tensor = network.tensors[name]
        assert found.shape == (2, *tensor.shape)
        assert tensor.q_min <= found.min() <= found.max() <= tensor.q_max


def test_zeros_around_an_image_become_the_padding_of_the_convolution(everything: Case) -> None:
    network = everything.lower(everything.uniform(8))
    (strided,) = (each for each in network.operations if isinstance(each, Product) and each.layer == "strided.0")
    assert strided.padding == (0, 0, 1, 1)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_layers_read_codes_of_the_policy(resnet: Case, bits: int) -> None:
    network = resnet.lower(resnet.uniform(bits))
    for number, product in enumerate(each for each in network.operations if isinstance(each, Product)):
        source, quantizer = network.tensors[product.source], resnet.quantizers.activation(number, bits)
        assert quantizer is not None
        assert (source.scale, source.q_max - source.q_min) == (quantizer.scale, 2**bits - 1)
        assert product.w_bits == bits
    assert resnet.error(resnet.uniform(bits)) < {2: 0.3, 3: 0.1, 8: 0.005}[bits]


def test_a_tensor_that_one_layer_reads_is_stored_in_its_codes(resnet: Case) -> None:
    operations = resnet.lower(resnet.uniform(4)).operations
    products = {each.layer: each for each in operations if isinstance(each, Product)}
    assert products["layer1.0.conv1"].output == products["layer1.0.conv2"].source


def test_a_shortcut_without_weights_takes_every_second_pixel_and_pads_channels(resnet: Case) -> None:
    moves = [each for each in resnet.lower(resnet.uniform(8)).operations if isinstance(each, Rearrangement)]
    assert [each.operator for each in moves] == ["subsample", "pad", "subsample", "pad", "flatten"]
    assert moves[0].stride == (2, 2)
    assert moves[1].padding == ((8, 8), (0, 0), (0, 0))


def test_layers_left_in_float_are_refused_by_name(resnet: Case) -> None:
    weights, inputs = resnet.uniform(8)
    with pytest.raises(UserError, match="layer conv1 is left in float"):
        resnet.lower(((None, *weights[1:]), inputs))


def test_transposed_convolutions_are_refused_by_name() -> None:
    case = Case(lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 2), nn.Flatten()), size=(3, 4, 4))
    with pytest.raises(UserError, match=r"layer 0 \(ConvTranspose\) cannot be computed in integers alone"):
        case.lower(case.uniform(8))
