"""Evolutionary search: crossover and mutation of the best policies so far."""

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
"""Maximum number of bits that a decision gains or loses in one mutation."""


def initial_policies(space: SearchSpace, *, uniform: int) -> list[IntArray]:
    """Return policies to start from: the greedy one under the prior, then uniform ones, all within the budget.

    Args:
        space: Search space.
        uniform: Number of uniform policies.

    Returns:
        Policies [decision, 2].
    """
    return [greedy_policy(space), *map(space.project, islice(uniform_policies(space), uniform))]


class Evolution:
    """Evolutionary `Proposer`: (mu + 1) evolution with crossover and mutation, every child projected.

    The first `population` policies are one greedy by the prior, a few uniform ones, then random ones. After that each
    child descends from the `parents` best policies so far: in half of the cases by crossover, each decision from one of
    two parents, else by mutation, where each decision changes to a nearby pair with probability `mutation`, and at
    least one does. These operators, at these rates, are those of Guo et al., Single Path One-Shot Neural Architecture
    Search (ECCV 2020, arXiv 1904.00420), with two changes that helped on synthetic scores: bits are ordered, so a
    mutation moves by two bits at most; and the numbers are for 100 evaluations, where the original has 1000. Children
    that were proposed before are drawn again; if all attempts fail, the best policy is proposed again.

    Args:
        space: Search space.
        population: Size of the first population.
        parents: Number of best policies that children descend from.
        mutation: Probability of a decision to change.
        seed: Seed of all random numbers.

    Raises:
        ValueError: A parameter is out of range.
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
        """Return a policy of the first population, or a child."""
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
        """Change at least one decision of a policy."""
        child = parent.copy()
        drawn = self._generator.random(len(child)) < self._mutation
        drawn[self._generator.integers(len(child))] = True
        for decision in np.flatnonzero(drawn):
            pairs = self._space.pairs(int(decision))
            distance = np.abs(pairs - parent[decision]).sum(axis=1)
            others = distance > 0
            if others.any():
                # The nearest other pair is always a candidate, even if it is further away.
                near = others & (distance <= max(_MAX_BIT_CHANGE, distance[others].min()))
                child[decision] = self._generator.choice(pairs[near])
        return child

    def tell(self, bits: IntArray, score: float) -> None:
        """Record the score of a policy, which becomes a candidate parent."""
        self._archive.record(bits, score)

    def state_dict(self) -> dict[str, Any]:
        """Return the archive, the state of the generator and the number of policies drawn."""
        generator = self._generator.bit_generator.state
        return {"archive": self._archive.state_dict(), "generator": generator, "drawn": self._drawn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self._archive.load_state_dict(state["archive"])
        self._generator.bit_generator.state = state["generator"]
        self._drawn = state["drawn"]
