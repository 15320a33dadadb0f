"""Observations and rewards of simulated rollouts, and an actor that learns from them."""

import numpy as np
import pytest
import torch

from agents import RolloutDDPG, RolloutDDPGConfig, SearchSpace
from agents.actor_rollouts import ActorRollouts
from agents.knapsack import Knapsack
from agents.loss_terms import pair_losses
from agents.rollout_actor import RolloutActor
from agents.simulated_rollouts import OBSERVATION_SIZE, Experience, Loads, RolloutObserver

SIZES = (1.0, 2.0, 3.0, 4.0, 4.0, 6.0)


@pytest.fixture
def space(make_space) -> SearchSpace:
    return make_space(SIZES, widths=(2, 3, 4, 5, 6, 7, 8), ratios=(0.3,))


def thetas(count: int = 3, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1.5, (count, len(SIZES), 2, 1)) - 1.3 * np.arange(1, 9)


def actor_of(seed: int = 0, learning_rate: float = 1e-3) -> RolloutActor:
    return RolloutActor(learning_rate=learning_rate, generator=torch.Generator().manual_seed(seed))


def loss(theta: np.ndarray, bits: np.ndarray) -> float:
    rows = np.arange(len(bits))
    return float(pair_losses(theta[None])[0, rows, bits[:, 0] - 1, bits[:, 1] - 1].sum())


def rollouts_of(space: SearchSpace, simulator, actor: RolloutActor) -> ActorRollouts:
    return ActorRollouts(space, simulator, actor, np.full((len(SIZES), 2), 4))


def test_rewards_sum_to_the_excess_over_the_least_loss(space, make_simulator):
    theta = thetas(1)
    rollouts = rollouts_of(space, make_simulator(space), actor_of())
    loads = Loads(space, np.ones(1))
    curves = rollouts.curves(theta)
    observer = RolloutObserver(space.allowed, loads, curves, np.zeros(2, dtype=np.int64), np.ones(2))
    chosen = iter([(4.0, 6.0)] * 2 * len(SIZES))

    def act(step):
        observer.observe(step)
        return (np.array(next(chosen)) - 1.5) / 7

    bits = make_simulator(space).simulate(act, np.repeat(space.budget[None], 2, axis=0))
    experience = observer.experience(bits)
    totals = experience.rewards.reshape(2 * len(SIZES), 2).sum(axis=0)
    least = curves.losses_to_go(np.array([0]), 0, np.ones(1))[0]
    scale = np.exp(theta.max() - theta.max())
    for rollout in range(2):
        assert totals[rollout] == pytest.approx(1 - loss(theta[0], bits[rollout]) / (scale * least), rel=1e-4)


def test_observations_are_finite_and_of_the_stated_size(space, make_simulator):
    rollouts = rollouts_of(space, make_simulator(space), actor_of())
    found = rollouts.explore(rollouts.curves(thetas()), np.random.default_rng(0), count=16)
    assert found.observations.shape == (16 * 2 * len(SIZES), OBSERVATION_SIZE)
    assert np.isfinite(found.observations).all()
    assert np.abs(found.observations).max() <= 10
    assert found.widths.min() >= 2
    assert found.widths.max() <= 8


@pytest.mark.parametrize(
    "settings",
    [{"ratios": (0.3,)}, {"ratios": (0.4, 0.3)}, {"ratios": (0.5,), "pinned": True}, {"ratios": (0.07,)}],
    ids=["one budget", "two budgets", "pinned", "tight"],
)
def test_rollouts_at_the_budget_are_policies_of_the_space(make_space, make_simulator, settings):
    space = make_space(SIZES, widths=(2, 3, 4, 5, 6, 7, 8), **settings)
    rollouts = rollouts_of(space, make_simulator(space), actor_of())
    for bits in rollouts.act(rollouts.curves(thetas())):
        assert space.fits(bits)


@pytest.mark.parametrize("cheapest", [0.0, 1.0])
def test_costs_may_be_zero(make_space, make_simulator, cheapest):
    space = make_space(SIZES, widths=(2, 3, 4), ratios=(0.5,))
    space.constraints.cost[:, :, :3, :3] *= cheapest
    rollouts, generator = rollouts_of(space, make_simulator(space), actor_of()), np.random.default_rng(0)
    curves = rollouts.curves(thetas())
    assert np.isfinite(rollouts.explore(curves, generator, count=8).observations).all()
    assert all(space.fits(bits) for bits in rollouts.act(curves))


def test_the_pretrained_actor_is_near_the_best_policies(space, make_simulator):
    actor = actor_of()
    actor.load_pretrained()
    rollouts, theta = rollouts_of(space, make_simulator(space), actor), thetas(8)
    solved = Knapsack(space).solve(pair_losses(theta))
    found = [space.project(bits) for bits in rollouts.act(rollouts.curves(theta))]
    ratios = [loss(each, ours) / loss(each, best) for each, ours, best in zip(theta, found, solved, strict=True)]
    assert np.mean(ratios) < 1.25
    assert min(ratios) >= 0.95


def test_an_actor_learns_from_simulated_rollouts(space, make_simulator):
    actor, theta, generator = actor_of(), thetas(1), np.random.default_rng(0)
    rollouts = rollouts_of(space, make_simulator(space), actor)
    curves = rollouts.curves(theta)
    before = loss(theta[0], rollouts.act(curves)[0])
    for _ in range(12):
        actor.learn(rollouts.explore(curves, generator, count=48), 30)
    assert loss(theta[0], rollouts.act(curves)[0]) < 0.7 * before


def test_a_restored_actor_continues_identically(space, make_simulator):
    first, second = actor_of(0), actor_of(1)
    rollouts = rollouts_of(space, make_simulator(space), first)
    experience = rollouts.explore(rollouts.curves(thetas()), np.random.default_rng(0), count=8)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    first.learn(experience, 3)
    second.load_state_dict(first.state_dict())
    for actor, generator in zip((first, second), generators, strict=True):
        actor._generator = generator
        actor.learn(experience, 3)
    assert all(torch.equal(vector, second.parameters()[name]) for name, vector in first.parameters().items())
    assert torch.equal(first.act(experience.observations), second.act(experience.observations))


def test_experiences_are_joined_in_order():
    parts = [
        Experience(np.full((2, 3), number, np.float32), np.full(2, number), np.full(2, number, np.float32))
        for number in (1, 2)
    ]
    joined = Experience.joined(parts)
    assert joined.observations[:, 0].tolist() == [1, 1, 2, 2]
    assert joined.widths.tolist() == joined.rewards.tolist() == [1, 1, 2, 2]


def test_over_many_decisions_new_rollouts_are_made_at_some_proposals_only(space, make_simulator):
    simulator, calls = make_simulator(space), []

    class Counting:
        observation_size, min_bits, max_bits = 10, 2, 8

        def simulate(self, act, limits):
            calls.append(len(limits))
            return simulator.simulate(act, limits)

    agent = RolloutDDPG(space, Counting(), config=RolloutDDPGConfig(training_rounds=0, max_steps=len(SIZES)))
    proposed = set()
    for _ in range(6):  # two steps for each decision: rollouts at every second proposal
        bits = agent.propose()
        agent.tell(bits, -float((0.5**bits).sum()))
        assert space.fits(bits)
        proposed.add(bits.tobytes())
    assert len(calls) == 3
    assert len(proposed) == 6
