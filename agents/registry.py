"""Table of the search methods: how each is built, and what a search and a comparison need to know of it."""

from collections.abc import Callable
from dataclasses import dataclass

from agents.base import Agent, Proposer, RolloutSimulator
from agents.ddpg import DDPG
from agents.ddpg_config import DDPGConfig
from agents.evolution import Evolution
from agents.greedy import Greedy
from agents.ilp import ILP
from agents.random_search import RandomSearch
from agents.rollout_ddpg import RolloutDDPG
from agents.space import SearchSpace
from agents.surrogate import Surrogate
from agents.tpe import TPE
from agents.uniform import Uniform


@dataclass(frozen=True, slots=True)
class SearchMethod:
    """Entry of the table.

    Attributes:
        build: Make a fresh `Agent` or `Proposer` from the search space, a simulator of rollouts and a seed.
        uses_prior: Whether it reads `SearchSpace.prior`, which then is estimated before the first episode.
        is_deterministic: Whether it proposes the same policies for every seed.
    """

    build: Callable[[SearchSpace, RolloutSimulator, int], Agent | Proposer]
    uses_prior: bool = True
    is_deterministic: bool = False


def _ddpg_paper(_: SearchSpace, simulator: RolloutSimulator, seed: int) -> Agent:
    return DDPG(simulator.observation_size, config=DDPGConfig.paper(), seed=seed)


METHODS: dict[str, SearchMethod] = {
    "ddpg": SearchMethod(lambda space, simulator, seed: RolloutDDPG(space, simulator, seed=seed)),
    "surrogate": SearchMethod(lambda space, _, seed: Surrogate(space, seed=seed)),
    "ddpg-paper": SearchMethod(_ddpg_paper, uses_prior=False),
    "random": SearchMethod(lambda _, __, seed: RandomSearch(seed=seed), uses_prior=False),
    "evolution": SearchMethod(lambda space, _, seed: Evolution(space, seed=seed)),
    "greedy": SearchMethod(lambda space, _, __: Greedy(space), is_deterministic=True),
    "ilp": SearchMethod(lambda space, _, __: ILP(space), is_deterministic=True),
    "tpe": SearchMethod(lambda space, _, seed: TPE(space, seed=seed)),
    "uniform": SearchMethod(lambda space, _, __: Uniform(space), is_deterministic=True),
}
"""Search methods by name: the values of `--agent`. A further method is a file beside this one and a line here."""
