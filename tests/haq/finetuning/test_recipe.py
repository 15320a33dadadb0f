"""What is optimized how."""

import pytest
import torch
from torch import nn

from haq.finetuning.config import FinetuneConfig
from haq.finetuning.network import TrainableNetwork, start_network
from haq.finetuning.recipe import distillation, make_optimizer, mean_weight_bits, resolve_rates
from haq.finetuning.starts import Starts
from haq.layers import Trace

X = torch.rand(8, 1, 6, 6, generator=torch.Generator().manual_seed(9))


def started(model: nn.Module, traced: Trace) -> TrainableNetwork:
    bits = ((4,) * 5, (4,) * 5)
    return start_network(model, Starts(model, traced, lambda: [X], shift="learned"), bits)


@pytest.mark.parametrize(
    ("bits", "lr", "decay"),
    [(2.0, 0.01, 0.25), (3.0, 0.01, 0.5), (4.0, 0.01, 1.0), (6.0, 0.01 * 0.1**0.5, 1.0), (8.0, 0.001, 1.0)],
)
def test_rates_follow_the_bits(bits: float, lr: float, decay: float) -> None:
    rates = resolve_rates(FinetuneConfig(weight_decay=1.0), bits)
    assert (rates.lr, rates.scale_lr, rates.weight_decay) == pytest.approx((lr, lr, decay))


def test_rates_that_were_given_are_taken() -> None:
    rates = resolve_rates(FinetuneConfig(lr=0.5, scale_lr=0.25), 2.0)
    assert (rates.lr, rates.scale_lr) == (0.5, 0.25)
    assert resolve_rates(FinetuneConfig(optimizer="adamw"), 4.0).lr == pytest.approx(0.001)


def test_shared_weights_count_once(small_trace: Trace) -> None:
    # stem 72 weights, depthwise 8, mix 64, used twice, classifier 128
    assert mean_weight_bits(small_trace, ((8, 2, 4, 4, None), (8,) * 5)) == (72 * 8 + 8 * 2 + 64 * 4) / 144
    assert mean_weight_bits(small_trace, ((None,) * 5, (None,) * 5)) == 8


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_every_parameter_is_in_one_group_and_only_weights_decay(
    name: str, small_net: nn.Module, small_trace: Trace
) -> None:
    network = started(small_net, small_trace)
    config = FinetuneConfig(optimizer=name, lr=0.1, scale_lr=0.01, weight_decay=0.3)
    optimizer = make_optimizer(network, config, resolve_rates(config, 4.0))
    names = {id(parameter): key for key, parameter in network.named_parameters()}
    where = [(names[id(parameter)], group) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(key for key, _ in where) == sorted(names.values())
    weights = {"model.stem.weight", "model.depthwise.weight", "model.mix.weight", "model.classifier.weight"}
    assert {key for key, group in where if group["weight_decay"]} == weights
    assert {group["lr"] for key, group in where if key.startswith("model.")} == {0.1}
    learned = [group["lr"] for key, group in where if not key.startswith("model.")]
    assert all(lr < 0.1 for lr in learned)


def test_adam_moves_a_scale_in_units_of_itself(small_net: nn.Module, small_trace: Trace) -> None:
    network = started(small_net, small_trace)
    config = FinetuneConfig(optimizer="adamw", scale_lr=0.01)
    optimizer = make_optimizer(network, config, resolve_rates(config, 4.0))
    before = {name: quantizer.scale.mean().item() for name, quantizer in network.quantizers()}
    network.train()(X).square().sum().backward()
    optimizer.step()
    for name, quantizer in network.quantizers():
        assert abs(quantizer.scale.mean().item() / before[name] - 1) < 0.011


def test_quantizers_alone(small_net: nn.Module, small_trace: Trace) -> None:
    network = started(small_net, small_trace)
    config = FinetuneConfig(learn="quantizers")
    optimizer = make_optimizer(network, config, resolve_rates(config, 4.0))
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    assert count == sum(len(list(quantizer.parameters())) for _, quantizer in network.quantizers())


def test_the_teachers_own_outputs_cost_nothing() -> None:
    outputs = torch.tensor([[1.0, 2.0], [0.0, -3.0]])
    assert distillation(outputs, outputs).item() == pytest.approx(0.0, abs=1e-7)
    # softmax (1/2, 1/2) from (3/4, 1/4), in nats
    ours, theirs = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
    expected = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    assert distillation(ours, theirs).item() == pytest.approx(expected.item())
