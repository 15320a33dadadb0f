"""Who proposes bits: agents that walk the layers of a network, and what they know of the search space."""

from agents.base import Agent, Proposer, Rollout, Transition, Walker
from agents.ddpg import DDPG, DDPGConfig
from agents.random_search import RandomSearch
from agents.space import SearchSpace

__all__ = ["DDPG", "Agent", "DDPGConfig", "Proposer", "RandomSearch", "Rollout", "SearchSpace", "Transition", "Walker"]
