"""Corrections computed by onnxruntime equal those computed by torch."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from haq.evaluation.engines.onnxruntime import OnnxEngine
from haq.evaluation.engines.torch import TorchEngine
from haq.network.layers import Trace, trace
from haq.network.models.digits_training import train_digits
from haq.network.zoo import load_model
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.tasks import load_task
from hardware_sim.cost import Bits


class Engines:
    """Network with its corrections from torch and from onnxruntime."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.trace: Trace = trace(model, images[:1])
        quantized = QuantizedModel(model, self.trace, Quantizers(model, self.trace, lambda: [images]))
        self.reference = TorchEngine(quantized, images)
        self.engine = OnnxEngine(quantized, self.trace, images[:1], reference=self.reference, threads=1)

    def corrections(self, bits: PolicyBits) -> tuple[Corrections, Corrections]:
        return self.reference.corrections(bits), self.engine.corrections(bits)

    def random_bits(self, seed: int, a_bits: Bits) -> PolicyBits:
        """Return bits of random weight widths."""
        widths = np.random.default_rng(seed).integers(2, 9, len(self.trace.layers)).tolist()
        return tuple(widths), (a_bits,) * len(widths)

    def differences(self, bits: PolicyBits) -> Tensor:
        """Return the differences of all corrections, relative to the spread of the float network's outputs."""
        expected, found = self.corrections(bits)
        assert found.biases.keys() == expected.biases.keys()
        assert found.scales.keys() == expected.scales.keys()
        assert found.statistics.keys() == expected.statistics.keys()
        outputs = self.reference.corrector.floats.outputs if self.reference.corrector else {}
        differences = [
            (found.biases[layer] - bias).abs().flatten() / outputs[layer][0].std()
            for layer, bias in expected.biases.items()
        ]
        differences += [(found.scales[layer] - scale).abs().flatten() for layer, scale in expected.scales.items()]
        for norm, (mean, variance) in expected.statistics.items():
            differences.append((found.statistics[norm][0] - mean).abs() / variance.sqrt())
            differences.append((found.statistics[norm][1] - variance).abs() / variance)
        return torch.cat(differences)


@torch.no_grad()
def fitted(model: nn.Module, images: Tensor) -> nn.Module:
    """Batch norms with the statistics of the images, and factors of both signs."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
            module.weight.uniform_(-1.5, 1.5)
            module.bias.uniform_(-0.5, 0.5)
    model.train()(images)
    return model.eval()


def random_images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3))


class Branches(nn.Module):
    """Batch norms first, after a sum, on features and after a layer with two readers; layers without batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.BatchNorm2d(4), nn.BatchNorm1d(6)
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1, bias=False)
        self.left, self.right = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.up = nn.ConvTranspose2d(4, 3, 2)
        self.tokens, self.head = nn.Linear(9, 5), nn.Linear(135, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(torch.relu(self.first(x)))
        y = self.left(y) + self.right(y + self.b(x))
        y = self.tokens(torch.relu(self.up(y)))
        scores: Tensor = self.last(self.head(y.flatten(1)))
        return scores


@pytest.fixture(scope="module")
def digits() -> Engines:
    images, _ = next(load_task("digits").batches("calibration", batch_size=64))
    return Engines(train_digits(), images)


@pytest.mark.parametrize("seed", [0, 1])
def test_corrections_of_digits_cnn_equal_torch(digits: Engines, seed: int) -> None:
    assert digits.differences(digits.random_bits(seed, None)).max() < 1e-4
    # A value halfway between two codes may take either, and a deeper layer may turn that into more.
    rounded = digits.differences(digits.random_bits(seed, 5))
    assert rounded.median() < 0.005
    assert rounded.max() < 0.3


def test_corrections_of_resnet_equal_torch() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        images = random_images(16, 3, 32, 32)
        engines = Engines(fitted(load_model("cifar_resnet20"), images), images)
    for seed in range(3):
        assert engines.differences(engines.random_bits(seed, None)).max() < 1e-4


def test_corrections_with_batch_norms_in_unusual_places_equal_torch() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        images = random_images(32, 4, 8, 8) + 3.0
        engines = Engines(fitted(Branches(), images), images)
    found = engines.corrections(engines.random_bits(0, None))[1]
    assert len(found.statistics) == 4
    assert len(found.biases) == 3
    assert engines.differences(engines.random_bits(0, None)).max() < 1e-4


def test_corrections_of_float_network_are_rounding_errors(digits: Engines) -> None:
    count = len(digits.trace.layers)
    found = digits.engine.corrections(((None,) * count, (None,) * count))
    assert max(bias.abs().max().item() for bias in found.biases.values()) < 1e-4


def test_corrections_are_deterministic(digits: Engines) -> None:
    names = tuple(layer.name for layer in digits.trace.layers)
    first, second = (digits.engine.corrections(digits.random_bits(4, 4)).tensors(names) for _ in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
