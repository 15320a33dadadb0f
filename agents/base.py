"""Who proposes bits: two small protocols, so that every search method can be held against every other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of an episode as it was executed; `action` is in [0, 1], `reward` is 0 before the last step."""

    observation: FloatArray
    action: float
    reward: float
    next_observation: FloatArray
    terminated: bool


@runtime_checkable
class Agent(Protocol):
    """Walks the layers of a network one step at a time.

    An episode is a series of `act`, then one `observe` for each executed step in the same order, then `end_episode`.
    Two agents with equal state and equal input answer alike: all randomness is in `state_dict`.
    """

    def act(self, observation: FloatArray) -> float:
        """The next action, in [0, 1], exploration included."""
        ...

    def observe(self, transition: Transition) -> None:
        """Take note of a step as the environment executed it."""
        ...

    def end_episode(self) -> Mapping[str, float]:
        """Learn from what was observed; returns the losses by name, none if nothing was learned."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next action depends on: tensors and plain scalars in dicts and lists."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        ...


@runtime_checkable
class Proposer(Protocol):
    """Answers whole policies."""

    def propose(self) -> IntArray:
        """The next policy to evaluate: bits [decision, 2], weights and activations, within the budget."""
        ...

    def tell(self, bits: IntArray, score: float) -> None:
        """What became of a policy; a higher score is better. May bring news of policies that it never proposed."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next proposal depends on: tensors and plain scalars in dicts and lists."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """One walk over the layers, as it was executed."""

    bits: IntArray
    """[decision, 2]: weights and activations of the final policy, within the budget."""
    observations: FloatArray
    """[step, size]"""
    actions: FloatArray
    """[step], in [0, 1]: those that lead to the final policy."""


class RolloutSimulator(Protocol):
    """Walks the layers without evaluating anything: what a `Proposer` that imagines episodes is given."""

    observation_size: int
    """Entries of one observation."""

    def rollout(self, act: Callable[[FloatArray], float]) -> Rollout:
        """Answer every observation with `act`, and bring the policy under the budget at the end."""
        ...

    def rollout_of(self, bits: IntArray) -> Rollout:
        """The walk that ends in the given legal policy, bits [decision, 2]."""
        ...
