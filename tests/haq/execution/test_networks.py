"""Networks with side effects leave inputs, weights and torch's state unchanged; unsupported weights raise."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from haq.errors import UserError
from haq.execution.networks import materialize, require_weights, run_network, switch_to_eval
from haq.network.layer_calls import require_float_layers
from haq.network.layers import trace
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers

IMAGES = torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))


class Through(nn.Module):
    """Network that runs another through a given function."""

    def __init__(self, net: nn.Module, run: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.run = net, run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.net, x)


def small() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2)).eval()


def test_input_is_unchanged_by_in_place_operations() -> None:
    network = Through(small(), lambda net, x: net(x.sub_(0.5).div_(0.25)))
    images = IMAGES.clone()
    expected = small()((IMAGES - 0.5) / 0.25)
    assert torch.equal(run_network(network, images), expected)
    assert torch.equal(images, IMAGES)


def test_outputs_are_unchanged_by_further_runs() -> None:
    kept = torch.zeros(5, 2)
    network = Through(small(), lambda net, x: kept.copy_(net(x)))
    with torch.no_grad():
        first = run_network(network, IMAGES)
        run_network(network, IMAGES + 1)
        assert torch.equal(first, small()(IMAGES))


class SwitchesGradients(nn.Sequential):
    """Network whose `train` switches gradients off and returns nothing."""

    def train(self, mode: bool = True) -> None:  # type: ignore[override]
        super().train(mode)
        torch.set_grad_enabled(mode)


def test_switch_to_eval_keeps_gradient_mode() -> None:
    network = SwitchesGradients(nn.Linear(2, 2), nn.Dropout())
    switch_to_eval(network)
    assert not network[1].training
    assert torch.is_grad_enabled()


def change_everything(net: nn.Module, x: Tensor) -> Tensor:
    outputs: Tensor = net(x)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_default_device("meta")
    torch.set_autocast_enabled("cpu", True)
    return outputs


def test_run_network_restores_torch_state() -> None:
    run_network(Through(small(), change_everything), IMAGES)
    assert torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")
    assert torch.zeros(1).dtype == torch.float32
    assert torch.zeros(1).device.type == "cpu"


class Counter(TorchFunctionMode):
    """Counter of convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.conv2d
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_gradient_checkpointing_is_disabled(use_reentrant: bool) -> None:
    network = Through(small(), partial(checkpoint, use_reentrant=use_reentrant))
    counter, plain = Counter(), small()
    with counter:
        run_network(network, IMAGES).sum().backward()
    plain(IMAGES).sum().backward()
    assert counter.count == 1
    for ours, expected in zip(network.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None
        assert expected.grad is not None
        assert torch.equal(ours.grad, expected.grad)


@pytest.mark.parametrize("kind", [nn.Embedding, nn.EmbeddingBag])
def test_max_norm_keeps_embedding_weights(
    kind: type[nn.Embedding] | type[nn.EmbeddingBag],
) -> None:
    network, words = kind(6, 4, max_norm=0.5), torch.tensor([[0, 1, 2]])
    before = network.weight.detach().clone()
    found = run_network(network, words)
    assert torch.equal(network.weight, before)
    assert torch.equal(found, network(words))  # which renormalizes them
    assert not torch.equal(network.weight, before)


def test_max_norm_outputs_do_not_depend_on_earlier_runs() -> None:
    def quantized() -> QuantizedModel:
        torch.default_generator.manual_seed(0)
        net = nn.Sequential(nn.Embedding(6, 4, max_norm=0.5), nn.Flatten(), nn.Linear(12, 2)).eval()
        traced = trace(net, torch.tensor([[0, 1, 2]]))
        return QuantizedModel(net, traced, Quantizers(net, traced, lambda: [torch.tensor([[3, 4, 5]])]))

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        fresh, used = quantized(), quantized()
        for words in torch.tensor([[[0, 1, 2]], [[3, 4, 5]]]):
            used.set_bits((2, 2), (8, 8))
            used(words)
            used.set_bits((None, None), (None, None))
            used(words)
        for model in (fresh, used):
            model.set_bits((2, 4), (8, 8))
        assert torch.equal(fresh(torch.tensor([[0, 4, 5]])), used(torch.tensor([[0, 4, 5]])))


def test_lazy_parameters_depend_on_seed_only() -> None:
    networks = [nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)) for _ in range(3)]
    state = torch.get_rng_state()
    for network, seed in zip(networks, (0, 0, 1), strict=True):
        materialize(network, IMAGES[:1], seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    first, again, other = (network.get_parameter("2.weight") for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_lazy_network_is_materialized_reproducibly_by_trace() -> None:
    networks = [nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)) for _ in range(2)]
    for network in networks:
        torch.rand(3)
        assert [layer.name for layer in trace(network, IMAGES[:1]).layers] == ["0", "2"]
    assert torch.equal(run_network(networks[0], IMAGES), run_network(networks[1], IMAGES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_non_float32_weights_raise(dtype: torch.dtype) -> None:
    network = small()
    network[4].to(dtype)
    with pytest.raises(UserError, match=rf"{dtype} weights \(4.weight\).*model.float\(\)"):
        require_weights(network)


def test_meta_weights_raise() -> None:
    with pytest.raises(UserError, match=r"no values in 0\.weight, which is on the meta device"):
        require_weights(small().to("meta"))


def spoil(path: str, value: float) -> nn.Module:
    network = small()
    network.register_buffer("mask", torch.zeros(2))
    tensor = dict([*network.named_parameters(), *network.named_buffers()])[path]
    with torch.no_grad():
        tensor.view(-1)[-1] = value
    return network


@pytest.mark.parametrize("path", ["0.weight", "4.bias", "1.weight", "1.running_var"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_non_finite_weights_raise(path: str, value: float) -> None:
    with pytest.raises(UserError, match=f"NaN or infinity in {path}"):
        require_weights(spoil(path, value))


def test_buffers_may_contain_infinity_but_not_nan() -> None:
    require_weights(spoil("mask", float("-inf")))
    with pytest.raises(UserError, match="NaN or infinity in mask"):
        require_weights(spoil("mask", float("nan")))


def autocast(net: nn.Module, x: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return F.softmax(net(x).float(), dim=1)


def test_layers_under_autocast_raise() -> None:
    network = Through(small(), autocast)
    with pytest.raises(UserError, match=r"layer net.0 computes in torch.bfloat16.*torch.autocast"):
        require_float_layers(network, trace(network, IMAGES[:1]), IMAGES[:1])
    require_float_layers(small(), trace(small(), IMAGES[:1]), IMAGES[:1])
