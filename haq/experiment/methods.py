"""Search methods with one interface for agents and proposers, which act in the environment."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.base import Agent, Float32Array, Proposer, Rollout, Transition
from agents.registry import METHODS
from agents.space import SearchSpace
from envs.bit_allocation import BitAllocationEnv, ExecutedStep
from envs.budget_rules import project
from envs.choices import Choices, IntArray
from envs.rollout import LayerRollouts, Trajectories
from haq.config import SearchConfig
from haq.errors import UserError
from haq.evaluation.protocols import Evaluation

Prior = NDArray[np.float64]
"""Expected loss of score by each pair of bits alone, [decision, w_bits, a_bits]."""
ScoredPolicies = Iterable[tuple[IntArray, float]]
"""Policies [decision, 2] with their rewards."""


class Trial(NamedTuple):
    """Result of one episode."""

    bits: IntArray
    """Bits [layer, 2] of weights and inputs."""
    reward: float
    evaluation: Evaluation
    losses: Mapping[str, float]
    """Losses of the networks of the method, by name; empty for methods without networks."""


class Method(Protocol):
    """Search method for one budget."""

    def play(self) -> Trial:
        """Propose a policy, evaluate it, and learn from its reward."""
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
    """

    def __init__(self, rollouts: LayerRollouts) -> None:
        self.observation_size = rollouts.observation_size
        self._rollouts = rollouts

    def rollout(self, act: Callable[[Float32Array], float]) -> Rollout:
        """Run a rollout, and bring its policy under the budget at the end.

        Args:
            act: Function from an observation [observation_size] to an action in [0, 1].

        Returns:
            The rollout.
        """
        return _rollout(self._rollouts.run(lambda observed: np.array([act(observed[0])])))

    def rollout_of(self, bits: IntArray) -> Rollout:
        """Return the rollout that ends in a given policy.

        Args:
            bits: Bits [decision, 2] of an allowed policy.

        Returns:
            The rollout.
        """
        return _rollout(self._rollouts.trajectories_of(bits[None]))


def _rollout(trajectories: Trajectories) -> Rollout:
    """Return the only rollout of a batch of one."""
    actions = trajectories.actions[0].astype(np.float32)
    return Rollout(bits=trajectories.bits[0], observations=trajectories.observations[0], actions=actions)


class AgentMethod:
    """Search method of an `Agent`, which acts in the environment, one step for each decision.

    Args:
        agent: The agent.
        env: Environment that evaluates policies.
    """

    def __init__(self, agent: Agent, env: BitAllocationEnv) -> None:
        self._agent, self._env = agent, env

    def play(self) -> Trial:
        """Run one episode, and learn from the steps as they were executed."""
        observation, _ = self._env.reset()
        terminated = False
        while not terminated:
            action = np.array([self._agent.act(observation)], dtype=np.float32)
            observation, reward, terminated, _, info = self._env.step(action)
        return Trial(info["bits"], reward, info["score"], self._learn(info["executed"], reward))

    def _learn(self, steps: tuple[ExecutedStep, ...], reward: float) -> Mapping[str, float]:
        for number, step in enumerate(steps, start=1):
            last = number == len(steps)
            following = step if last else steps[number]
            earned = reward if last else 0.0
            self._agent.observe(Transition(step.observation, step.action, earned, following.observation, last))
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


class ProposerMethod:
    """Search method of a `Proposer`, whose policies the environment evaluates unchanged.

    Args:
        proposer: The proposer.
        env: Environment that evaluates policies.
    """

    def __init__(self, proposer: Proposer, env: BitAllocationEnv) -> None:
        self._proposer, self._env = proposer, env

    def play(self) -> Trial:
        """Evaluate the next proposed policy, and report its reward to the proposer."""
        decided = self._proposer.propose()
        bits = self._env.choices.expand(decided)
        reward, evaluation = self._env.outcome_of(bits)
        self._proposer.tell(decided, reward)
        return Trial(bits, reward, evaluation, {})

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
