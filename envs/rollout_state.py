"""State of rollouts that have reached the same step, and trajectories of complete ones; axis 0 is the rollout."""

from dataclasses import dataclass

import numpy as np

from envs.choices import FloatArray, IntArray
from envs.observation import Float32Array


@dataclass(frozen=True, slots=True, eq=False)
class Trajectories:
    """Complete rollouts, with the actions and observations that lead to their final policies."""

    bits: IntArray
    """[rollout, decision, 2]"""
    observations: Float32Array
    """[rollout, step, size]"""
    actions: FloatArray
    """[rollout, step], in [0, 1]"""


class RolloutState:
    """State of rollouts that have reached the same step.

    Args:
        reserve: Bits of decisions that are still open, [decision, 2].
        steps: Number of steps of a rollout.
        reserve_cost: Cost of the reserve, [constraint].
        capacity: Limits of the budgets of each rollout, [rollout, constraint].

    Attributes:
        bits: Bits chosen so far, and those of the reserve elsewhere, [rollout, decision, 2].
        actions: Executed actions, 1 for steps to come, [rollout, step].
        spent: Cost of all decisions, [rollout, constraint]: at the chosen bits where both weights and activations are
            chosen, at the bits of the reserve otherwise.
        step: Number of the next step.
    """

    def __init__(self, reserve: IntArray, steps: int, reserve_cost: FloatArray, capacity: FloatArray) -> None:
        count = len(capacity)
        self.capacity = capacity
        self.bits = np.repeat(reserve[None], count, axis=0)
        self.actions = np.ones((count, steps))
        self.spent = np.repeat(reserve_cost[None], count, axis=0)
        self.step = 0
