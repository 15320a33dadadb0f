"""Who proposes: the search methods by name."""

from collections.abc import Callable, Mapping

from agents.base import Agent
from agents.ddpg import DDPG
from agents.random_search import RandomSearch
from haq.config import AgentName

AGENTS: Mapping[AgentName, Callable[[int, int], Agent]] = {
    "ddpg": lambda observation_size, seed: DDPG(observation_size, seed=seed),
    "random": lambda _, seed: RandomSearch(seed=seed),
}


def make_agent(name: AgentName, observation_size: int, *, seed: int) -> Agent:
    """A fresh agent."""
    return AGENTS[name](observation_size, seed)
