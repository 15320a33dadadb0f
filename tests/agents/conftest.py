"""Fixtures: search spaces with the real projection onto the budget."""

from collections.abc import Callable

import numpy as np
import pytest

from agents import RolloutSimulator, RolloutStep, SearchSpace
from envs.budget_rules import project
from envs.choices import AllowedBits, Choices
from envs.rollout import EnvConfig, LayerRollouts
from hardware_sim.layer import Layer

BITS = np.arange(1, 9)


def build_space(
    sizes: tuple[float, ...] = (3.0, 1.0, 2.0, 4.0),
    *,
    widths: tuple[int, ...] = (2, 3, 4, 5),
    ratios: tuple[float, ...] = (0.5,),
    pinned: bool = False,
    prior: np.ndarray | None = None,
) -> SearchSpace:
    """Decisions of given sizes; costs are size * w_bits * a_bits, then size * w_bits, then a_bits.

    `ratios`: one budget each, in parts of the cost at the most bits. `pinned`: the last decision always has 8 bits.
    """
    size = np.array(sizes)[:, None, None]
    w, a = np.broadcast_arrays(BITS[:, None], BITS[None, :])
    cost = np.stack([size * w * a, size * w * np.ones_like(a), np.ones_like(size) * a])[: len(ratios)].astype(float)
    allowed = np.broadcast_to(np.isin(w, widths) & np.isin(a, widths), cost.shape[1:]).copy()
    if pinned:
        allowed[-1] = (w == 8) & (a == 8)
    budget = np.where(allowed, cost, 0).max(axis=(2, 3)).sum(axis=1) * np.array(ratios)
    names = tuple(f"layer{index}" for index in range(len(sizes)))
    choice = Choices(names, tuple(range(len(sizes))), allowed, cost, budget, names[: len(ratios)])
    return SearchSpace(constraints=choice, project=lambda bits: project(choice, bits), prior=prior)


@pytest.fixture(scope="session")
def make_space() -> Callable[..., SearchSpace]:
    return build_space


class Simulator:
    """Rollouts of the environment over the decisions of a search space."""

    observation_size = 10
    min_bits, max_bits = 2, 8

    def __init__(self, space: SearchSpace) -> None:
        layers = [Layer(name=name, kind="linear", c_in=1, c_out=1) for name in space.names]
        assert isinstance(space.constraints, Choices)
        self._rollouts = LayerRollouts(layers, space.constraints, AllowedBits(), EnvConfig())

    def simulate(self, act: Callable[[RolloutStep], np.ndarray], limits: np.ndarray) -> np.ndarray:
        state = self._rollouts.initial_state(len(limits), limits)
        while state.step < self._rollouts.episode_length:
            step = RolloutStep(*self._rollouts.decision_at(state.step), state.bits, self._rollouts.selectable(state))
            self._rollouts.advance(state, act(step))
        return state.bits


@pytest.fixture(scope="session")
def make_simulator() -> Callable[[SearchSpace], RolloutSimulator]:
    return Simulator
