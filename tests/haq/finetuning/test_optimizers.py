"""What moves weights, scales and shifts, and how far."""

import pytest
import torch
from torch import nn

from haq.network.layers import Trace
from haq.quantization.adaptive import AdaptiveQuantizer
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.initialization import Initializer
from haq.quantization.training.learner import Learner
from haq.quantization.training.network import TrainableNetwork, start_network
from haq.quantization.training.optimizers import make_optimizers, relative_adam
from haq.quantization.training.recipe import resolve_rates
from haq.tasks.classification import ClassificationTask

X = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(9))
LAYERS = 5


def started(model: nn.Module, traced: Trace, bits: int = 4) -> TrainableNetwork:
    widths = ((bits,) * LAYERS, (bits,) * LAYERS)
    return start_network(model, Initializer(model, traced, lambda: [X], shift="learned"), widths)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_every_parameter_is_in_one_group_and_only_weights_decay(
    name: str, small_net: nn.Module, small_trace: Trace
) -> None:
    network = started(small_net, small_trace)
    config = FinetuneConfig(optimizer=name, lr=0.1, scale_lr=0.01, weight_decay=0.3)
    optimizers = make_optimizers(network, config, resolve_rates(config, 4.0))
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    where = [
        (names[id(parameter)], group)
        for optimizer in optimizers.values()
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert sorted(key for key, _ in where) == sorted(names.values())
    weights = {"model.stem.weight", "model.depthwise.weight", "model.mix.weight", "model.classifier.weight"}
    assert {key for key, group in where if group["weight_decay"]} == weights
    assert {group["lr"] for key, group in where if key.startswith("model.")} == {0.1}
    assert {group["lr"] for key, group in where if not key.startswith("model.")} == {0.01}


def test_quantizers_alone(small_net: nn.Module, small_trace: Trace) -> None:
    network = started(small_net, small_trace)
    config = FinetuneConfig(learn="quantizers")
    optimizers = make_optimizers(network, config, resolve_rates(config, 4.0))
    assert list(optimizers) == ["quantizers"]
    found = [parameter for group in optimizers["quantizers"].param_groups for parameter in group["params"]]
    assert len(found) == sum(len(list(quantizer.parameters())) for _, quantizer in network.quantizers())


def test_a_network_in_float_has_no_quantizers_to_move(small_net: nn.Module, small_trace: Trace) -> None:
    none = (None,) * LAYERS
    network = start_network(small_net, Initializer(small_net, small_trace, lambda: [X], shift="learned"), (none, none))
    config = FinetuneConfig()
    assert list(make_optimizers(network, config, resolve_rates(config, 8.0))) == ["weights"]


@pytest.mark.parametrize("loss_scale", [1e-4, 1.0, 1e4])
def test_scales_move_in_parts_of_themselves_whatever_the_loss(
    loss_scale: float, small_net: nn.Module, small_trace: Trace
) -> None:
    network = started(small_net, small_trace)
    config = FinetuneConfig(scale_lr=0.01)
    optimizer = make_optimizers(network, config, resolve_rates(config, 4.0))["quantizers"]
    before = {name: quantizer.scale.detach().clone() for name, quantizer in network.quantizers()}
    (network.train()(X).square().sum() * loss_scale).backward()
    optimizer.step()
    for name, quantizer in network.quantizers():
        moved = (quantizer.scale / before[name] - 1).abs()
        assert moved.max() < 0.0101
        if name.endswith(".input"):  # of weights some channels round nothing
            assert moved.item() == pytest.approx(0.01, rel=0.01)


def test_units_are_each_elements_own() -> None:
    """The same steps as plain Adam's on parameters divided by their units."""
    units = torch.tensor([1e-3, 1.0, 1e4])
    parameter, plain = (torch.full((3,), 2.0, requires_grad=True) for _ in range(2))
    with torch.no_grad():
        parameter.mul_(units)
    ours, reference = relative_adam([(parameter, units)], lr=0.05), torch.optim.Adam([plain], lr=0.05)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        parameter.grad = torch.randn(3, generator=generator)
        plain.grad = parameter.grad.clone()
        ours.step()
        reference.step()
    torch.testing.assert_close(parameter.detach(), plain.detach() * units)


@pytest.mark.parametrize("learn", ["all", "quantizers"])
def test_a_misplaced_shift_finds_back_while_the_network_learns(
    learn: str, small_net: nn.Module, small_trace: Trace, quarters: ClassificationTask
) -> None:
    network = started(small_net, small_trace)
    quantizer = network.inputs["4"]
    assert isinstance(quantizer, AdaptiveQuantizer)
    assert quantizer.start_scale is not None
    calibrated = quantizer.start_zero_point.item()
    quantizer.start_at(quantizer.start_scale, quantizer.start_zero_point + 4, signed=True)
    config = FinetuneConfig(learn=learn)
    learner = Learner(
        network, quarters, config=config, rates=resolve_rates(config, 4.0), total_steps=400, teacher=small_net
    )
    inputs, targets = next(quarters.batches("train", batch_size=96))
    network.train()
    for _ in range(learner.total_steps):
        learner.step(inputs, targets)
    assert quantizer.shift is not None
    assert (quantizer.shift / quantizer.scale).item() > 1
    assert abs(quantizer.zero_point.item() - calibrated) <= 2


def test_zero_points_stay_once_they_settled(
    small_net: nn.Module, small_trace: Trace, quarters: ClassificationTask
) -> None:
    network = started(small_net, small_trace, bits=3)
    config = FinetuneConfig(scale_lr=0.1)
    learner = Learner(network, quarters, config=config, rates=resolve_rates(config, 3.0), total_steps=40)
    batches = list(quarters.batches("train", batch_size=32))
    network.train()
    seen: list[tuple[int, ...]] = []
    for step in range(learner.total_steps):
        learner.step(*batches[step % len(batches)])
        inputs = [quantizer for name, quantizer in network.quantizers() if name.endswith(".input")]
        seen.append(tuple(int(quantizer.zero_point) for quantizer in inputs))
    assert len(set(seen[: learner.total_steps // 2])) > 1
    assert len(set(seen[learner.total_steps // 2 :])) == 1
