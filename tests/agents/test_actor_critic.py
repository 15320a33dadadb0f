import pytest
import torch

from agents.actor_critic import Actor, Critic, TargetNetworks
from agents.mlp import MLP
from agents.replay import Steps


def linear(*parameters: float) -> MLP:
    """A network without hidden layers: weights, then the bias."""
    mlp = MLP((len(parameters) - 1, 1), torch.Generator())
    mlp.parameters.copy_(torch.tensor(parameters))
    return mlp


def test_critic_fit_returns_squared_error_and_takes_a_step():
    critic = Critic(linear(1.0, 1.0, 0.0), 0.1)
    loss = critic.fit(torch.tensor([[1.0, 0.5], [1.0, 1.5]]), torch.tensor([[0.5], [0.5]]))
    # Errors 1 and 2; all three gradients are positive, and a first step of Adam is the learning rate.
    assert loss.item() == 2.5
    torch.testing.assert_close(critic.network.parameters, torch.tensor([0.9, 0.9, -0.1]))


def test_critic_returns_gradient_with_respect_to_actions():
    value, gradient = Critic(linear(1.0, 3.0, 0.0), 0.1).value_and_gradient(
        torch.ones(2, 1), torch.tensor([[0.0], [1.0]])
    )
    assert value.item() == 2.5
    assert gradient.tolist() == [[1.5], [1.5]]


@pytest.mark.parametrize(("slope", "inverted", "expected"), [(1, True, 0.2), (-1, True, -0.8), (1, False, 0.16)])
def test_actor_update_with_inverted_and_sigmoid_gradients(slope, inverted, expected):
    """At an action of 0.8 the range above is 0.2, below 0.8; the derivative of the sigmoid is 0.16."""
    actor = Actor(linear(0.0, torch.tensor(0.8).logit().item()), 0.1, inverted=inverted)
    loss = actor.update(torch.ones(1, 1), Critic(linear(0.0, slope, 0.0), 0.1))
    assert loss.item() == pytest.approx(-0.8 * slope)
    torch.testing.assert_close(actor.network.gradient, torch.full((2,), -expected))


def test_soft_update_moves_targets_by_tau():
    actor, critic = linear(0.0, 0.0), linear(0.0, 0.0, 1.0)
    targets = TargetNetworks(actor, critic, 0.25)
    actor.parameters.fill_(4.0)
    targets.soft_update()
    assert targets.state_dict()["actor"]["parameters"].tolist() == [1.0, 1.0]
    targets.soft_update()
    assert targets.state_dict()["actor"]["parameters"].tolist() == [1.75, 1.75]
    assert targets.state_dict()["critic"]["parameters"].tolist() == [0.0, 0.0, 1.0]


def test_next_values_use_target_networks_and_are_zero_at_episode_end():
    """Actor: sigmoid(0) = 0.5; critic: observation + 2 * action + 1."""
    targets = TargetNetworks(linear(0.0, 0.0), linear(1.0, 2.0, 1.0), 0.5)
    next_observations = torch.tensor([[3.0], [3.0]])
    steps = Steps(torch.zeros(2, 2), torch.zeros(2, 1), next_observations, torch.tensor([[1.0], [0.0]]))
    assert targets.next_values(steps).tolist() == [[5.0], [0.0]]
