"""Search methods: agents that choose bits step by step, and proposers that return complete policies."""

from agents.base import Agent, Proposer, RolloutSimulator, RolloutStep, Transition
from agents.ddpg import DDPG
from agents.ddpg_config import DDPGConfig
from agents.evolution import Evolution
from agents.greedy import Greedy
from agents.ilp import ILP
from agents.random_search import RandomSearch
from agents.rollout_ddpg import RolloutDDPG, RolloutDDPGConfig
from agents.space import SearchSpace
from agents.surrogate import Surrogate, SurrogateConfig
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
    "Proposer",
    "RandomSearch",
    "RolloutDDPG",
    "RolloutDDPGConfig",
    "RolloutSimulator",
    "RolloutStep",
    "SearchSpace",
    "Surrogate",
    "SurrogateConfig",
    "Transition",
    "Uniform",
]
