"""Critic with one value for each width."""

import pytest
import torch

from agents.mlp import MLP
from agents.simulated_rollouts import LOADS, NOT_SELECTABLE, OBSERVATION_SIZE
from agents.width_critic import WidthCritic


def critic_of(learning_rate: float = 1e-3) -> tuple[WidthCritic, MLP]:
    network = MLP((OBSERVATION_SIZE, 8), torch.Generator().manual_seed(0))
    return WidthCritic(network, learning_rate), network


def observation(*selectable: int) -> torch.Tensor:
    observed = torch.linspace(-1, 1, OBSERVATION_SIZE)[None].clone()
    observed[:, LOADS] = torch.tensor([0.5 if width in selectable else NOT_SELECTABLE for width in range(1, 9)])
    return observed


def action(width: float) -> torch.Tensor:
    return torch.tensor([[(width - 0.5) / 8]])


@pytest.mark.parametrize(
    ("selectable", "width", "between"),
    [
        (range(1, 9), 4.25, (4, 5)),
        (range(1, 9), 1.0, (1, 2)),
        (range(1, 9), 8.0, (7, 8)),
        ((2, 4, 8), 5.0, (4, 8)),
        ((2, 4, 8), 4.0, (4, 8)),
        ((2, 4, 8), 1.0, (2, 4)),
        ((2, 4, 8), 8.4, (4, 8)),
        ((3, 5), 7.0, (3, 5)),
    ],
)
def test_values_are_linear_between_selectable_widths_and_beyond_them(selectable, width, between):
    critic, network = critic_of()
    observed = observation(*selectable)
    left, right = (network.forward(observed)[-1][0, each - 1].item() for each in between)
    slope = (right - left) / (between[1] - between[0])
    value, gradient = critic.value_and_gradient(observed, action(width))
    assert value.item() == pytest.approx(left + slope * (width - between[0]), abs=1e-5)
    assert gradient.item() == pytest.approx(8 * slope, abs=1e-4)


def test_a_single_selectable_width_has_no_gradient():
    critic, network = critic_of()
    observed = observation(8)
    value, gradient = critic.value_and_gradient(observed, action(3))
    assert value.item() == pytest.approx(network.forward(observed)[-1][0, 7].item(), abs=1e-6)
    assert gradient.item() == 0


def test_gradients_are_of_the_mean_over_the_batch():
    critic, _ = critic_of()
    one = critic.value_and_gradient(observation(2, 3), action(2.5))[1]
    two = critic.value_and_gradient(observation(2, 3).repeat(2, 1), action(2.5).repeat(2, 1))[1]
    torch.testing.assert_close(two, one.repeat(2, 1) / 2)


def test_the_critic_learns_the_value_of_the_executed_width():
    critic, network = critic_of(0.01)
    observed = observation(2, 3, 4)
    before = network.forward(observed)[-1][0].clone()
    for _ in range(400):
        critic.fit(observed, torch.tensor([[3]]), torch.tensor([[2.0]]))
    after = network.forward(observed)[-1][0]
    assert after[2].item() == pytest.approx(2.0, abs=0.05)
    others = [0, 1, 3, 4, 5, 6, 7]
    torch.testing.assert_close(after[others], before[others])


def test_large_errors_have_a_bounded_gradient():
    gradients = []
    for target in (100.0, 10000.0):
        critic, network = critic_of()
        critic.fit(observation(2, 3), torch.tensor([[3]]), torch.tensor([[target]]))
        gradients.append(network.gradient.clone())
    assert gradients[0].abs().max() > 0.1
    torch.testing.assert_close(*gradients)
