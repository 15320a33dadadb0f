"""Protocols of search methods: `Agent`, `Proposer`, and the simulator that a proposer may use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Float32Array = NDArray[np.float32]
"""Observations and actions."""
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Transition:
    """One executed step of an episode.

    Args:
        observation: Observation before the step, [observation_size].
        action: Executed action in [0, 1].
        reward: Reward of the step; 0 before the last one.
        next_observation: Observation after the step, [observation_size].
        terminated: Whether the episode ended.
        proposed: Action that the agent returned for this step; None if another one chose it.
    """

    observation: Float32Array
    action: float
    reward: float
    next_observation: Float32Array
    terminated: bool
    proposed: float | None = None


@runtime_checkable
class Agent(Protocol):
    """Search method that chooses bits step by step.

    An episode is a series of `act`, then one `observe` for each executed step in the same order, then `end_episode`.
    Where several policies are evaluated at a time, the actions of several episodes precede the steps of the first.
    Two agents with equal state and equal input return the same actions: all randomness is part of `state_dict`.
    """

    def act(self, observation: Float32Array) -> float:
        """Return the next action, including exploration.

        Args:
            observation: Array [observation_size].

        Returns:
            Action in [0, 1].
        """
        ...

    def observe(self, transition: Transition) -> None:
        """Add a step to the current episode.

        Args:
            transition: The step as the environment executed it.
        """
        ...

    def end_episode(self) -> Mapping[str, float]:
        """Finish the episode and learn from it.

        Returns:
            Losses by name; empty if nothing was learned.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next action depends on: tensors and plain scalars in dicts and lists."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`.

        Args:
            state: The state; the agent then continues exactly as the one it was taken from.
        """
        ...


@runtime_checkable
class Proposer(Protocol):
    """Search method that proposes complete policies.

    Where several policies are evaluated at a time, several proposals precede the score of the first; they should
    differ.
    """

    def propose(self) -> IntArray:
        """Return the next policy to evaluate: bits [decision, 2], weights and activations, within the budget."""
        ...

    def tell(self, bits: IntArray, score: float) -> None:
        """Report the score of a policy, which need not be one that was proposed.

        Args:
            bits: The policy, [decision, 2].
            score: Its score, higher is better.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return everything that the next proposal depends on: tensors and plain scalars in dicts and lists."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`.

        Args:
            state: The state; the proposer then continues exactly as the one it was taken from.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class RolloutStep:
    """Next step of simulated rollouts, one width of one decision."""

    decision: int
    """Position of the decision."""
    column: int
    """0 for the weights of the decision, 1 for its activations."""
    bits: IntArray
    """[rollout, decision, 2]: those chosen so far; elsewhere bits that keep within the budgets."""
    selectable: NDArray[np.bool_]
    """[rollout, width]: widths that may be chosen, index = bits - 1."""


class RolloutSimulator(Protocol):
    """Environment without evaluation, for proposers that act on simulated rollouts."""

    observation_size: int
    """Length of an observation of the environment."""
    min_bits: int
    """Width of actions near 0."""
    max_bits: int
    """Width of actions near 1; every width between has an equal part of [0, 1]."""

    def simulate(self, act: Callable[[RolloutStep], FloatArray], limits: FloatArray) -> IntArray:
        """Simulate rollouts, without the budget rule's last step.

        Args:
            act: Function from a step to actions in [0, 1], [rollout]. The nearest selectable width is chosen.
            limits: Budgets of each rollout, [rollout, constraint].

        Returns:
            Chosen bits [rollout, decision, 2].
        """
        ...
