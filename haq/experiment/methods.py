"""Who proposes: the search methods by name, and what the loop asks of each."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from agents.base import Agent, FloatArray, Proposer, Rollout, RolloutSimulator, Transition
from agents.ddpg import DDPG
from agents.ddpg_config import DDPGConfig
from agents.evolution import Evolution
from agents.greedy import Greedy
from agents.ilp import ILP
from agents.model_based import ModelBasedDDPG
from agents.random_search import RandomSearch
from agents.space import SearchSpace
from agents.tpe import TPE
from agents.uniform import Uniform
from envs.bit_allocation import BitAllocationEnv, ExecutedStep
from envs.budget import project
from envs.choices import Choices, IntArray
from envs.rollout import LayerRollouts, Trajectories
from haq.config import AgentName, SearchConfig
from haq.errors import UserError

Prior = NDArray[np.float64]
"""Expected loss of score by each pair of bits alone, [decision, w_bits, a_bits]."""
ScoredPolicies = Iterable[tuple[IntArray, float]]
"""Policies [decision, 2] with what they earned."""


class Trial(NamedTuple):
    """An episode as it was played."""

    bits: IntArray
    """[layer, 2]"""
    reward: float
    losses: Mapping[str, float]


class Method(Protocol):
    """A search method at work on one budget: what the loop knows of it."""

    def play(self) -> Trial:
        """Propose a policy, have it evaluated, and learn."""
        ...

    def take_over(self, earlier: "Method", known: ScoredPolicies) -> None:
        """Begin with what the same method learned on another budget."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next episode depends on."""
        ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        ...


def uses_prior(config: SearchConfig) -> bool:
    """Whether the method of a configuration looks at a prior."""
    return config.prior != "none" and config.agent not in ("random", "ddpg-paper")


def make_method(name: AgentName, env: BitAllocationEnv, *, seed: int, prior: Prior | None = None) -> Method:
    """A fresh search method. Raises UserError if it needs a library that is not installed."""
    try:
        made = METHODS[name](search_space(env.choice, prior), RolloutAdapter(env.rollouts), seed)
    except ImportError as error:
        raise UserError(str(error)) from error
    return AgentMethod(made, env) if isinstance(made, Agent) else ProposerMethod(made, env)


def search_space(choice: Choices, prior: Prior | None = None) -> SearchSpace:
    """What a `Proposer` may know of the choice."""
    return SearchSpace(
        names=choice.names,
        allowed=choice.allowed,
        cost=choice.cost,
        budget=choice.limits,
        project=lambda bits: project(choice, bits),
        prior=prior,
    )


class RolloutAdapter:
    """A `RolloutSimulator` by the environment's rules."""

    def __init__(self, rollouts: LayerRollouts) -> None:
        self.observation_size = rollouts.observation_size
        self._rollouts = rollouts

    def rollout(self, act: Callable[[FloatArray], float]) -> Rollout:
        """Answer every observation with `act`, and bring the policy under the budget at the end."""
        return _rollout(self._rollouts.run(lambda observed: np.array([act(observed[0])])))

    def rollout_of(self, bits: IntArray) -> Rollout:
        """The walk that ends in the given legal policy, bits [decision, 2]."""
        return _rollout(self._rollouts.trajectories_of(bits[None]))


def _rollout(trajectories: Trajectories) -> Rollout:
    """The only walk."""
    actions = trajectories.actions[0].astype(np.float32)
    return Rollout(bits=trajectories.bits[0], observations=trajectories.observations[0], actions=actions)


METHODS: Mapping[AgentName, Callable[[SearchSpace, RolloutSimulator, int], Agent | Proposer]] = {
    "ddpg": lambda space, simulator, seed: ModelBasedDDPG(space, simulator, seed=seed),
    "ddpg-paper": lambda _, simulator, seed: DDPG(simulator.observation_size, config=DDPGConfig.paper(), seed=seed),
    "random": lambda _, __, seed: RandomSearch(seed=seed),
    "evolution": lambda space, _, seed: Evolution(space, seed=seed),
    "greedy": lambda space, _, __: Greedy(space),
    "ilp": lambda space, _, __: ILP(space),
    "tpe": lambda space, _, seed: TPE(space, seed=seed),
    "uniform": lambda space, _, __: Uniform(space),
}


class AgentMethod:
    """An `Agent` that walks the environment."""

    def __init__(self, agent: Agent, env: BitAllocationEnv) -> None:
        self._agent, self._env = agent, env

    def play(self) -> Trial:
        """Walk the layers once, and learn from the steps as they were executed."""
        observation, _ = self._env.reset()
        terminated = False
        while not terminated:
            action = np.array([self._agent.act(observation)], dtype=np.float32)
            observation, reward, terminated, _, info = self._env.step(action)
        return Trial(info["bits"], reward, self._learn(info["executed"], reward))

    def _learn(self, steps: tuple[ExecutedStep, ...], reward: float) -> Mapping[str, float]:
        for number, step in enumerate(steps, start=1):
            last = number == len(steps)
            following = step if last else steps[number]
            earned = reward if last else 0.0
            self._agent.observe(Transition(step.observation, step.action, earned, following.observation, last))
        return self._agent.end_episode()

    def take_over(self, earlier: Method, known: ScoredPolicies) -> None:  # noqa: ARG002  the agent has seen all of it
        """Go on with the same agent, in whose observations budgets are relative."""
        assert isinstance(earlier, AgentMethod)
        self._agent = earlier._agent

    def state_dict(self) -> dict[str, Any]:
        """The agent's."""
        return self._agent.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The agent's."""
        self._agent.load_state_dict(state)


class ProposerMethod:
    """A `Proposer`, whose policies the environment judges as they are."""

    def __init__(self, proposer: Proposer, env: BitAllocationEnv) -> None:
        self._proposer, self._env = proposer, env

    def play(self) -> Trial:
        """Ask for a policy and tell what it earned."""
        decided = self._proposer.propose()
        bits = self._env.choice.expand(decided)
        reward = self._env.reward_of(bits)
        self._proposer.tell(decided, reward)
        return Trial(bits, reward, {})

    def take_over(self, earlier: Method, known: ScoredPolicies) -> None:  # noqa: ARG002  what it made of the news was for its budget
        """Tell the news of all policies."""
        for decided, reward in known:
            self._proposer.tell(decided, reward)

    def state_dict(self) -> dict[str, Any]:
        """The proposer's."""
        return self._proposer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The proposer's."""
        self._proposer.load_state_dict(state)
