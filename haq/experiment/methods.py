"""Search methods with one interface for agents and proposers; policies follow the rules of the environment."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.base import Agent, Float32Array, Proposer, RolloutStep, Transition
from agents.registry import METHODS
from agents.space import SearchSpace
from envs.bit_allocation import BitAllocationEnv
from envs.budget_rules import project
from envs.choices import Choices, IntArray
from envs.rollout import LayerRollouts
from envs.rollout_state import Trajectories
from haq.config import SearchConfig
from haq.errors import UserError

Prior = NDArray[np.float64]
"""Expected loss of score by each pair of bits alone, [decision, w_bits, a_bits]."""
ScoredPolicies = Iterable[tuple[IntArray, float]]
"""Policies [decision, 2] with their rewards."""


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """Policy that a method proposed.

    Attributes:
        bits: Bits [layer, 2] of weights and inputs.
        decisions: The same bits by decision, [decision, 2].
        steps: Steps of the rollout that led to the policy, without the reward; none for complete policies.
    """

    bits: IntArray
    decisions: IntArray
    steps: tuple[Transition, ...] = ()


class Method(Protocol):
    """Search method for one budget.

    Several policies may be proposed before the first one is learned from; they are learned from in the same order.
    """

    def propose(self) -> Proposal:
        """Return the next policy to evaluate."""
        ...

    def learn(self, proposal: Proposal, reward: float) -> Mapping[str, float]:
        """Learn from the reward of a proposed policy.

        Args:
            proposal: The oldest proposal that was not learned from.
            reward: Its reward.

        Returns:
            Losses of the networks of the method, by name; empty for methods without networks.
        """
        ...

    def take_over(self, earlier: "Method", observations: ScoredPolicies) -> None:
        """Continue from the state of the same method on another budget.

        Args:
            earlier: The method on the other budget.
            observations: All policies evaluated so far, with their scores.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state that the next episode depends on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state.

        Args:
            state: Result of `state_dict`.
        """
        ...


def uses_prior(config: SearchConfig) -> bool:
    """Return whether the search method of a configuration uses a prior.

    Args:
        config: Settings of the search.

    Returns:
        True if a prior is to be computed.
    """
    return config.prior != "none" and METHODS[config.agent].uses_prior


def make_method(name: str, env: BitAllocationEnv, *, seed: int, prior: Prior | None = None) -> Method:
    """Create a search method.

    Args:
        name: A key of `agents.registry.METHODS`.
        env: Environment that evaluates policies.
        seed: Random seed.
        prior: Expected loss of each pair of bits; None if it was not estimated.

    Returns:
        The method, untrained.

    Raises:
        UserError: The method needs a library that is not installed.
    """
    try:
        made = METHODS[name].build(search_space(env.choices, prior), RolloutAdapter(env.rollouts), seed)
    except ImportError as error:
        raise UserError(str(error)) from error
    return AgentMethod(made, env) if isinstance(made, Agent) else ProposerMethod(made, env)


def search_space(choice: Choices, prior: Prior | None = None) -> SearchSpace:
    """Describe the allowed bits and budgets to a `Proposer`.

    Args:
        choice: Allowed bits and budgets.
        prior: Expected loss of each pair of bits; None if it was not estimated.

    Returns:
        The search space.
    """
    return SearchSpace(constraints=choice, project=lambda bits: project(choice, bits), prior=prior)


class RolloutAdapter:
    """Adapter from the environment's rollouts to the `RolloutSimulator` of agents.

    Args:
        rollouts: Rollouts of the environment.

    Attributes:
        observation_size: Number of values of an observation.
        min_bits: Width of actions near 0.
        max_bits: Width of actions near 1.
    """

    def __init__(self, rollouts: LayerRollouts) -> None:
        self.observation_size = rollouts.observer.size
        self.min_bits, self.max_bits = rollouts.widths.min_bits, rollouts.widths.max_bits
        self._rollouts = rollouts

    def simulate(self, act: Callable[[RolloutStep], NDArray[np.float64]], limits: NDArray[np.float64]) -> IntArray:
        """Simulate rollouts, without the budget rule's last step.

        Args:
            act: Function from a step to actions in [0, 1], [rollout].
            limits: Budgets of each rollout, [rollout, constraint].

        Returns:
            Chosen bits [rollout, decision, 2].
        """
        state = self._rollouts.initial_state(len(limits), limits)
        while state.step < self._rollouts.episode_length:
            decision, column = self._rollouts.decision_at(state.step)
            step = RolloutStep(decision, column, state.bits, self._rollouts.selectable(state))
            self._rollouts.advance(state, act(step))
        return state.bits


class AgentMethod:
    """Search method of an `Agent`, which acts in the environment, one step for each decision.

    Args:
        agent: The agent.
        env: Environment with the rules of the budget.
    """

    def __init__(self, agent: Agent, env: BitAllocationEnv) -> None:
        self._agent, self._env = agent, env

    def propose(self) -> Proposal:
        """Run one rollout of the agent."""
        proposed: list[float] = []

        def act(observed: Float32Array) -> NDArray[np.float32]:
            proposed.append(self._agent.act(observed[0]))
            return np.array(proposed[-1:], dtype=np.float32)

        trajectories = self._env.rollouts.run(act)
        decisions = trajectories.bits[0]
        return Proposal(self._env.choices.expand(decisions), decisions, _steps(trajectories, proposed))

    def learn(self, proposal: Proposal, reward: float) -> Mapping[str, float]:
        """Let the agent observe the steps as they were executed, and end the episode."""
        for step in proposal.steps:
            self._agent.observe(replace(step, reward=reward) if step.terminated else step)
        return self._agent.end_episode()

    def take_over(self, earlier: Method, observations: ScoredPolicies) -> None:  # noqa: ARG002  the agent has seen all
        """Continue with the same agent: budgets are relative in its observations."""
        assert isinstance(earlier, AgentMethod)
        self._agent = earlier._agent

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the agent."""
        return self._agent.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the agent."""
        self._agent.load_state_dict(state)


def _steps(trajectories: Trajectories, proposed: Sequence[float]) -> tuple[Transition, ...]:
    """Split the only trajectory into its steps, without the reward; the last one has no further observation."""
    observed, executed = trajectories.observations[0], trajectories.actions[0].tolist()
    last = len(executed) - 1
    return tuple(
        Transition(observed[step], action, 0.0, observed[min(step + 1, last)], step == last, proposed[step])
        for step, action in enumerate(executed)
    )


class ProposerMethod:
    """Search method of a `Proposer`, whose policies are evaluated unchanged.

    Args:
        proposer: The proposer.
        env: Environment with the rules of the budget.
    """

    def __init__(self, proposer: Proposer, env: BitAllocationEnv) -> None:
        self._proposer, self._env = proposer, env

    def propose(self) -> Proposal:
        """Return the next policy of the proposer."""
        decisions = self._proposer.propose()
        return Proposal(self._env.choices.expand(decisions), decisions)

    def learn(self, proposal: Proposal, reward: float) -> Mapping[str, float]:
        """Report the reward to the proposer."""
        self._proposer.tell(proposal.decisions, reward)
        return {}

    def take_over(self, earlier: Method, observations: ScoredPolicies) -> None:  # noqa: ARG002  its state was for its own budget
        """Report the rewards of all policies evaluated so far to the proposer."""
        for decided, reward in observations:
            self._proposer.tell(decided, reward)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the proposer."""
        return self._proposer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state of the proposer."""
        self._proposer.load_state_dict(state)
