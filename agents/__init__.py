"""Search methods: agents that choose bits step by step, and proposers that return complete policies."""

from agents.base import Agent, Proposer, Rollout, RolloutSimulator, Transition
from agents.ddpg import DDPG
from agents.ddpg_config import DDPGConfig
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
