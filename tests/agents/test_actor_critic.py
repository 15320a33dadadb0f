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


def test_the_critic_reports_the_squared_error_and_steps_against_it():
    critic = Critic(linear(1.0, 1.0, 0.0), 0.1)
    loss = critic.fit(torch.tensor([[1.0, 0.5], [1.0, 1.5]]), torch.tensor([[0.5], [0.5]]))
    # Errors 1 and 2; all three gradients are positive, and a first step of Adam is the learning rate.
    assert loss.item() == 2.5
    torch.testing.assert_close(critic.network.parameters, torch.tensor([0.9, 0.9, -0.1]))


def test_the_gradient_of_the_mean_value_is_that_of_the_action():
    value, gradient = Critic(linear(1.0, 3.0, 0.0), 0.1).value_and_gradient(
        torch.ones(2, 1), torch.tensor([[0.0], [1.0]])
    )
    assert value.item() == 2.5
    assert gradient.tolist() == [[1.5], [1.5]]


@pytest.mark.parametrize(("slope", "inverted", "expected"), [(1, True, 0.2), (-1, True, -0.8), (1, False, 0.16)])
def test_the_actor_climbs_by_the_room_that_is_left(slope, inverted, expected):
    """At an action of 0.8: room above 0.2, below 0.8; the sigmoid's own derivative is 0.16."""
    actor = Actor(linear(0.0, torch.tensor(0.8).logit().item()), 0.1, inverted=inverted)
    loss = actor.update(torch.ones(1, 1), Critic(linear(0.0, slope, 0.0), 0.1))
    assert loss.item() == pytest.approx(-0.8 * slope)
    torch.testing.assert_close(actor.network.gradient, torch.full((2,), -expected))


def test_targets_follow_by_tau():
    actor, critic = linear(0.0, 0.0), linear(0.0, 0.0, 1.0)
    targets = TargetNetworks(actor, critic, 0.25)
    actor.parameters.fill_(4.0)
    targets.soft_update()
    assert targets.state_dict()["actor"]["parameters"].tolist() == [1.0, 1.0]
    targets.soft_update()
    assert targets.state_dict()["actor"]["parameters"].tolist() == [1.75, 1.75]
    assert targets.state_dict()["critic"]["parameters"].tolist() == [0.0, 0.0, 1.0]


def test_the_next_value_is_of_the_target_actors_action_and_zero_at_the_end():
    """Actor: sigmoid(0) = 0.5; critic: observation + 2 * action + 1."""
    targets = TargetNetworks(linear(0.0, 0.0), linear(1.0, 2.0, 1.0), 0.5)
    next_observations = torch.tensor([[3.0], [3.0]])
    steps = Steps(torch.zeros(2, 2), torch.zeros(2, 1), next_observations, torch.tensor([[1.0], [0.0]]))
    assert targets.next_values(steps).tolist() == [[5.0], [0.0]]
