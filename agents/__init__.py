"""Who proposes bits: agents that walk the layers of a network, rivals that answer whole ones, and what they know."""

from agents.base import Agent, Proposer, Rollout, RolloutSimulator, Transition
from agents.ddpg import DDPG, DDPGConfig
from agents.evolution import Evolution
from agents.greedy import Greedy
from agents.ilp import ILP
from agents.model_based import ModelBasedConfig, ModelBasedDDPG
from agents.random_search import RandomSearch
from agents.space import SearchSpace
from agents.tpe import TPE
from agents.uniform import Uniform

__all__ = [
    "DDPG",
    "ILP",
    "TPE",
    "Agent",
    "DDPGConfig",
    "Evolution",
    "Greedy",
    "ModelBasedConfig",
    "ModelBasedDDPG",
    "Proposer",
    "RandomSearch",
    "Rollout",
    "RolloutSimulator",
    "SearchSpace",
    "Transition",
    "Uniform",
]
