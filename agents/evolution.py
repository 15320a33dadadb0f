"""The rival that breeds: crossover and mutation among the best policies known."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

import numpy as np

from agents.archive import Archive
from agents.base import IntArray
from agents.greedy import greedy_policy
from agents.space import SearchSpace
from agents.uniform import uniform_policies

_MAX_ATTEMPTS = 20
_MAX_BIT_CHANGE = 2
"""How many bits a decision gains or loses at most in one mutation."""


def initial_policies(space: SearchSpace, *, uniform: int) -> list[IntArray]:
    """What is known to be sensible before any evaluation: the greedy one by the prior, then `uniform` uniform ones."""
    return [greedy_policy(space), *map(space.project, islice(uniform_policies(space), uniform))]


class Evolution:
    """A `Proposer` that evolves policies: a (mu + 1) evolution with crossover and mutation, every child projected.

    The first `population` policies are one greedy by the prior, a few uniform ones, then random ones. After that each
    child comes from the `parents` best of all policies known: in every second case by crossover, each decision from
    one of two parents, else by mutation, each decision with the probability `mutation` to a pair near by, at least one.
    These operators, at these rates, are those of Guo et al., Single Path One-Shot Neural Architecture Search (ECCV
    2020, arXiv 1904.00420), but for two things that paid on synthetic scores: bits are ordered, so a mutation moves by
    two bits at most; and the numbers are for 100 evaluations, where the original has 1000.
    A child that is known already is bred again; where nothing new comes up, the best policy again.
    """

    def __init__(
        self, space: SearchSpace, *, population: int = 10, parents: int = 5, mutation: float = 0.1, seed: int = 0
    ) -> None:
        if population < 1 or parents < 1:
            raise ValueError(f"population and parents must be at least 1, got {population} and {parents}")
        if not 0 < mutation <= 1:
            raise ValueError(f"mutation must be in (0, 1], got {mutation}")
        self._space = space
        self._archive = Archive(space)
        self._generator = np.random.Generator(np.random.PCG64(seed))
        self._initial = initial_policies(space, uniform=4)
        self._population = population
        self._parents = parents
        self._mutation = mutation
        self._drawn = 0

    def propose(self) -> IntArray:
        """A policy of the first population, or a child."""
        for _ in range(_MAX_ATTEMPTS):
            bits = self._next()
            if bits not in self._archive:
                self._archive.add_pending(bits)
                return bits
        return self._archive.best

    def _next(self) -> IntArray:
        self._drawn += 1
        if self._drawn <= min(len(self._initial), self._population):
            return self._initial[self._drawn - 1].copy()
        parents = self._archive.top(self._parents)
        if self._drawn <= self._population or not parents:
            return self._space.sample(self._generator)
        if len(parents) > 1 and self._generator.random() < 0.5:
            return self._space.project(self._crossover(parents))
        return self._space.project(self._mutate(parents[self._generator.integers(len(parents))]))

    def _crossover(self, parents: list[IntArray]) -> IntArray:
        first, second = self._generator.choice(len(parents), 2, replace=False)
        chosen = self._generator.random((len(self._space.names), 1)) < 0.5
        return np.asarray(np.where(chosen, parents[first], parents[second]))

    def _mutate(self, parent: IntArray) -> IntArray:
        """The parent with at least one decision moved."""
        child = parent.copy()
        drawn = self._generator.random(len(child)) < self._mutation
        drawn[self._generator.integers(len(child))] = True
        for decision in np.flatnonzero(drawn):
            pairs = self._space.pairs(int(decision))
            distance = np.abs(pairs - parent[decision]).sum(axis=1)
            others = distance > 0
            if others.any():
                # However wide the gap to it, the nearest other pair is within reach.
                near = others & (distance <= max(_MAX_BIT_CHANGE, distance[others].min()))
                child[decision] = self._generator.choice(pairs[near])
        return child

    def tell(self, bits: IntArray, score: float) -> None:
        """Note what became of a policy: it may be a parent from now on."""
        self._archive.record(bits, score)

    def state_dict(self) -> dict[str, Any]:
        """The known policies, the generator's state and how many policies were drawn."""
        generator = self._generator.bit_generator.state
        return {"archive": self._archive.state_dict(), "generator": generator, "drawn": self._drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        self._archive.load_state_dict(state["archive"])
        self._generator.bit_generator.state = state["generator"]
        self._drawn = state["drawn"]
