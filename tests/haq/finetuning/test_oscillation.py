"""Weights between two codes."""

import pytest
import torch
from torch import Tensor, nn

from haq.network.layers import trace
from haq.quantization.adaptive import AdaptiveQuantizer
from haq.quantization.training.network import TrainableNetwork
from haq.quantization.training.oscillation import Freezer, dampening


def network_of(weights: Tensor) -> TrainableNetwork:
    """One linear layer on a 3-bit grid of step 1: codes -3 to 3."""
    model = nn.Linear(len(weights), 1, bias=False)
    model.weight.data = weights[None].clone()
    quantizer = AdaptiveQuantizer(3, signed=True, channel_axis=0, shift="none", narrow=True, batch_axis=None)
    quantizer.start_at(torch.ones(1), torch.zeros(1), signed=True)
    traced = trace(model, torch.zeros(1, len(weights)))
    return TrainableNetwork(model, traced, weights={0: quantizer}, inputs={}, second_inputs={})


def weight(network: TrainableNetwork) -> Tensor:
    return network.model.get_parameter("weight")


def test_dampening_by_hand() -> None:
    network = network_of(torch.tensor([0.4, -1.25, 7.0]))
    loss = dampening(network)
    loss.backward()
    assert loss.item() == pytest.approx(0.4**2 + 0.25**2)  # what is clipped is left alone
    assert weight(network).grad is not None
    assert torch.allclose(weight(network).grad, torch.tensor([[0.8, -0.5, 0.0]]))
    assert all(parameter.grad is None for parameter in network.weights.parameters())


def oscillate(freezer: Freezer, steps: int) -> None:
    """The first weight jumps between 0 and 1, mostly 1; the second walks; the third stays."""
    network = freezer.network
    for step in range(steps):
        with torch.no_grad():
            weight(network)[0, 0] = 0.4 if step % 4 == 3 else 0.6
            weight(network)[0, 1] = min(3.0, 0.05 * step)
        freezer.step(0.0)


def test_only_what_oscillates_is_frozen_where_it_mostly_is() -> None:
    network = network_of(torch.tensor([0.6, 0.0, 2.2]))
    freezer = Freezer(network)
    oscillate(freezer, 60)
    assert freezer.frozen == pytest.approx(1 / 3)
    with torch.no_grad():
        weight(network)[0] = torch.tensor([-2.7, -2.7, -2.7])
    freezer.step(0.0)
    assert weight(network)[0, 0].item() == 1.0
    assert weight(network)[0, 1].item() == pytest.approx(-2.7)


def test_a_state_goes_on_where_it_was_taken() -> None:
    first, second = (Freezer(network_of(torch.tensor([0.6, 0.0, 2.2]))) for _ in range(2))
    oscillate(first, 30)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    for freezer in (first, second):
        oscillate(freezer, 7)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_a_state_goes_where_the_weights_are() -> None:
    here, there = (Freezer(network_of(torch.tensor([0.6, 0.0, 2.2]))) for _ in range(2))
    oscillate(here, 3)
    there.network.to("meta")
    there.load_state_dict(here.state_dict())
    assert {value.device.type for value in there.state_dict().values()} == {"meta"}
