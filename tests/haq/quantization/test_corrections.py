"""Corrections of biases and batch norms, compared with statistics by hand."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from safetensors.torch import load, save
from torch import Tensor, nn

from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.evaluator import Evaluator
from haq.network.layers import trace
from haq.network.models.digits_training import train_digits
from haq.network.tracing.weighted_calls import Call
from haq.quantization.corrections import LARGEST_SCALE, Corrections, Corrector
from haq.quantization.options import QuantizerOptions
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.quantization.weight_scales import ANY_SCALES
from haq.tasks import TaskOptions, load_task
from hardware_sim.cost import Bits


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        yield


def fitted(model: nn.Module, x: Tensor) -> nn.Module:
    """Set the statistics of batch norms to those of x."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches: of the one there is
    model.train()(x)
    return model.eval()


def corrected(
    model: nn.Module, x: Tensor, w_bits: Bits, a_bits: Bits, options: QuantizerOptions | None = None
) -> tuple[QuantizedModel, Corrections]:
    traced = trace(model, x[:1])
    policy = QuantizedModel(model, traced, Quantizers(model, traced, lambda: [x], options))
    policy.set_bits([w_bits] * len(traced.layers), [a_bits] * len(traced.layers))
    found = Corrector(model, policy.index, x, quantized=policy.quantized, is_scalable=policy.is_scalable).find()
    policy.set_corrections(found)
    return policy, found


class Recorded(nn.Module):
    """Identity that records its input."""

    def forward(self, x: Tensor) -> Tensor:
        self.seen = x
        return x


class WithNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.before = nn.Conv2d(2, 3, 3, bias=False), Recorded()
        self.bn, self.after = nn.BatchNorm2d(3, eps=1e-5), Recorded()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.after(self.bn(self.before(self.conv(x))))
        return y


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)


def test_batch_norm_statistics_equal_values_by_hand() -> None:
    x = torch.randn(32, 2, 8, 8)
    model = WithNorm()
    fitted(model, x)
    model.bn.running_mean.add_(0.1)  # calibration images never have quite the statistics of training
    model(x)
    float_mean, float_variance = moments(model.before.seen)
    policy, found = corrected(model, x, 2, 2)
    policy(x)
    mean, variance = moments(model.before.seen)
    assert (mean - float_mean).abs().max() > 0.005
    ((norm, (new_mean, new_variance)),) = found.statistics.items()
    assert norm == ("bn.running_mean", 1)
    torch.testing.assert_close(new_mean, model.bn.running_mean + mean - float_mean)
    ratio = (variance + 1e-5) / (float_variance + 1e-5)
    torch.testing.assert_close(new_variance, model.bn.running_var * ratio)
    assert not found.biases


def test_normalized_output_has_mean_and_variance_of_float_network() -> None:
    x = torch.randn(32, 2, 8, 8)
    model = WithNorm()
    fitted(model, x)
    model(x)
    float_mean, float_variance = moments(model.after.seen)
    policy, _ = corrected(model, x, 2, 2)
    policy.set_corrections(Corrections())
    policy(x)
    _, uncorrected = moments(model.after.seen)
    policy, _ = corrected(model, x, 2, 2)
    policy(x)
    mean, variance = moments(model.after.seen)
    assert (uncorrected - float_variance).abs().max() > 0.05
    torch.testing.assert_close(mean, float_mean, rtol=0, atol=1e-4)
    torch.testing.assert_close(variance, float_variance, rtol=0.001, atol=0)


def deep() -> tuple[nn.Sequential, Recorded, Recorded]:
    """Return two layers without batch norm, and the records of their outputs."""
    inner, outer = Recorded(), Recorded()
    layers = [nn.Conv2d(2, 4, 3), inner, nn.ReLU(), nn.Flatten(), nn.Linear(144, 5), outer]
    return nn.Sequential(*layers).eval(), inner, outer


def test_channel_means_and_variances_are_restored_without_batch_norm() -> None:
    """Each layer is corrected on the corrected outputs of the layers before it."""
    x = torch.rand(16, 2, 8, 8)
    model, inner, outer = deep()
    model(x)
    expected = moments(inner.seen), moments(outer.seen[..., None, None])
    policy, found = corrected(model, x, 3, 3)
    assert sorted(found.biases) == sorted(found.scales) == [0, 1]
    policy.set_corrections(Corrections())
    policy(x)
    assert (outer.seen.mean(dim=0) - expected[1][0]).abs().max() > 0.01
    assert (outer.seen.var(dim=0, correction=0) / expected[1][1] - 1).abs().max() > 0.02
    policy.set_corrections(found)
    policy(x)
    for (mean, variance), seen in zip(expected, (inner.seen, outer.seen[..., None, None]), strict=True):
        torch.testing.assert_close(moments(seen)[0], mean, rtol=0, atol=1e-5)
        torch.testing.assert_close(moments(seen)[1], variance, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "options",
    [QuantizerOptions(weights="kmeans"), QuantizerOptions(weight_scales=replace(ANY_SCALES, power_of_two=True))],
)
def test_only_means_are_restored_where_weights_have_no_free_scales(options: QuantizerOptions) -> None:
    x = torch.rand(16, 2, 8, 8)
    model, _, outer = deep()
    model(x)
    mean = outer.seen.mean(dim=0)
    policy, found = corrected(model, x, 3, 3, options)
    assert not found.scales
    policy(x)
    torch.testing.assert_close(outer.seen.mean(dim=0), mean, rtol=0, atol=1e-5)


def test_weights_of_two_layers_are_not_scaled() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.last = nn.Linear(6, 6), nn.Linear(6, 6)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.linear(self.linear(x).relu()).relu())  # type: ignore[no-any-return]

    _, found = corrected(Twice().eval(), torch.randn(32, 6), 3, 3)
    assert (sorted(found.biases), sorted(found.scales)) == ([0, 1, 2], [2])


def test_scales_stay_within_their_bounds() -> None:
    """A layer whose weights are all rounded to zero has no variance that could be restored."""
    x = torch.randn(64, 6)
    model = nn.Sequential(nn.Linear(6, 4)).eval()
    policy = QuantizedModel(model, trace(model, x[:1]), Quantizers(model, trace(model, x[:1]), lambda: [x]))
    policy.set_bits([4], [4])

    def weak(layer: int, call: Call) -> Tensor:
        return policy.quantized(layer, call) * torch.tensor([0.0, 0.1, 1.0, 10.0])

    scales = Corrector(model, policy.index, x, quantized=weak, is_scalable=lambda _: True).find().scales[0]
    assert scales[[0, 1, 3]].tolist() == [LARGEST_SCALE, LARGEST_SCALE, 1 / LARGEST_SCALE]
    assert 0.9 < scales[2] < 1.1


class Shared(nn.Module):
    """One batch norm behind two layers, and two batch norms behind one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(6, 6) for _ in range(3))
        self.shared, self.left, self.right = (nn.BatchNorm1d(6) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(self.b(torch.relu(self.shared(self.a(x)))))
        y = self.c(x)
        both: Tensor = self.left(y) + self.right(y)
        return both


def test_shared_batch_norm_has_statistics_per_call() -> None:
    x = torch.randn(64, 6)
    model = fitted(Shared(), x)
    policy, found = corrected(model, x, 3, 3)
    norms = {
        ("shared.running_mean", 1),
        ("shared.running_mean", 2),
        ("left.running_mean", 1),
        ("right.running_mean", 1),
    }
    assert set(found.statistics) == norms
    assert not found.biases
    first, second = (found.statistics["shared.running_mean", call][0] for call in (1, 2))
    assert not torch.allclose(first, second)
    quantizers = policy.quantizers
    hidden = F.linear(quantizers.input(x, 0, 3), quantizers.weight(0, 3), model.a.bias)
    expected = model.shared.running_mean + hidden.mean(dim=0) - model.a(x).mean(dim=0)
    torch.testing.assert_close(first, expected)


@pytest.mark.parametrize("network", [WithNorm, Shared])
def test_float_policy_is_not_corrected(network: type[nn.Module]) -> None:
    x = torch.randn(64, 6) if network is Shared else torch.randn(16, 2, 8, 8)
    model = fitted(network(), x)
    expected = model(x)
    policy, found = corrected(model, x, None, None)
    buffers = dict(model.named_buffers())
    for (path, _), (mean, variance) in found.statistics.items():
        assert torch.equal(mean, buffers[path])
        assert torch.equal(variance, buffers[path.replace("mean", "var")])
    assert torch.equal(policy(x), expected)


@pytest.mark.parametrize("network", [WithNorm, Shared, lambda: nn.Sequential(nn.Conv2d(2, 3, 1))])
def test_corrections_round_trip_through_tensors(network: type[nn.Module]) -> None:
    x = torch.randn(64, 6) if network is Shared else torch.randn(16, 2, 8, 8)
    model = network().eval()
    policy, found = corrected(model, x, 3, 3)
    names = tuple(layer.name for layer in trace(model, x[:1]).layers)
    again = Corrections.from_tensors(load(save({**found.tensors(names), "other": torch.ones(1)})), names)
    assert again.statistics.keys() == found.statistics.keys()
    assert again.biases.keys() == found.biases.keys()
    expected = policy(x)
    policy.set_corrections(again)
    assert torch.equal(policy(x), expected)


def test_running_statistics_of_network_are_unchanged() -> None:
    x = torch.randn(16, 2, 8, 8)
    model = fitted(WithNorm(), x)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    corrected(model, x, 2, 2)[0](x)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("bits", "gain"), [(2, 0.2), (3, 0.01)])
def test_corrections_raise_accuracy_at_few_bits(bits: int, gain: float) -> None:
    """The first and the last layer keep 8 bits."""
    model = train_digits()
    task = load_task("digits", options=TaskOptions(search_images=200, calibration_images=128))
    images = next(iter(task.batches("calibration", batch_size=64)))[0]
    traced = trace(model, images[:1])
    quantizers = Quantizers(model, traced, lambda: [images])
    chosen = [8, *[bits] * (len(traced.layers) - 2), 8]
    accuracies = [
        Evaluator(TorchEngine(QuantizedModel(model, traced, quantizers), seen), task, "search")
        .evaluate(chosen, chosen)
        .accuracy
        for seen in (None, images)
    ]
    assert accuracies[1] >= accuracies[0] + gain
