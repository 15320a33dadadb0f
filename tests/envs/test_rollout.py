"""Parallel rollouts compared to episodes of the environment."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.bit_allocation import BitAllocationEnv
from envs.choices import AllowedBits, Budget
from envs.observation import OBSERVATION_KINDS, ObservationKind
from envs.rollout import BUDGET_RULES, BudgetRule, EnvConfig
from hardware_sim.cost import CostTable
from hardware_sim.layer import Layer
from hardware_sim.proxy import proxy_table

LAYERS = tuple(Layer(name=f"l{number}", kind="linear", c_in=4 + 3 * number, c_out=5) for number in range(4))
TABLE = proxy_table(LAYERS)
FREE = AllowedBits(pinned={})


def env_of(
    rule: BudgetRule = "cost-aware",
    observation: ObservationKind = "haq",
    *,
    part: float = 0.3,
    allowed: AllowedBits = FREE,
    table: CostTable = TABLE,
) -> BitAllocationEnv:
    budgets = [Budget("bops", part * float(table.policy_cost([8] * 4, [8] * 4).bops or 0)), Budget("size", 120.0)]
    return BitAllocationEnv(
        LAYERS, table, budgets, lambda bits: bits.sum() / 100, allowed=allowed, config=EnvConfig(observation, rule)
    )


def from_table(actions: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Function that returns actions [rollout, step] one step after the other."""
    steps = iter(actions.T)
    return lambda _: next(steps)


@given(actions=st.lists(st.floats(0, 1), min_size=24, max_size=24), part=st.floats(0.1, 1.0))
@pytest.mark.parametrize("observation", OBSERVATION_KINDS)
@pytest.mark.parametrize("rule", BUDGET_RULES)
@settings(max_examples=15, deadline=None)
def test_parallel_rollouts_equal_environment_episodes(
    rule: BudgetRule, observation: ObservationKind, actions: list[float], part: float
) -> None:
    env, table = env_of(rule, observation, part=part), np.array(actions).reshape(3, 8)
    trajectories = env.rollouts.run(from_table(table), 3)
    for number, row in enumerate(table):
        env.reset()
        for action in row:
            _, _, _, _, info = env.step(np.array([action]))
        assert info["bits"].tolist() == trajectories.bits[number].tolist()
        assert [step.action for step in info["executed"]] == trajectories.actions[number].tolist()
        assert [step.bits for step in info["executed"]] == trajectories.bits[number].ravel().tolist()
        seen = np.stack([step.observation for step in info["executed"]])
        assert np.array_equal(seen, trajectories.observations[number])


@pytest.mark.parametrize("action", [-0.1, 1.1, np.nan])
def test_actions_outside_unit_interval_raise(action: float) -> None:
    with pytest.raises(ValueError, match=r"an action lies in \[0, 1\]"):
        env_of().rollouts.run(lambda observed: np.full(len(observed), action), 2)


def test_reward_of_policy_equals_episode_reward() -> None:
    env = env_of(part=1.0)
    env.reset()
    for _ in range(8):
        _, reward, _, _, info = env.step(np.array([0.4]))
    assert env.outcome_of(info["bits"]) == (reward, info["score"])
