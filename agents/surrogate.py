"""Model-based search whose candidates are optima of the model, found by a solver, and exchanges of bits around them."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from agents.base import IntArray
from agents.knapsack import Knapsack
from agents.loss_terms import pair_losses
from agents.model_based import ModelBasedConfig, ModelBasedSearch, at_least
from agents.space import SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class SurrogateConfig(ModelBasedConfig):
    """Settings of `Surrogate`.

    Args:
        neighbours: Neighbours considered per proposal around the best observed policy, and half as many around the best
            expected one.
    """

    neighbours: int = at_least(0, default=150)


class Surrogate(ModelBasedSearch):
    """`Proposer` that solves for the best policies of a model of the reward.

    Candidates are optima of the posterior mean and of posterior samples (Thompson sampling), and exchanges of bits
    around the best policies.

    Args:
        space: Search space, with or without a measured prior.
        config: Settings.
        seed: Seed of all random numbers.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        config: SurrogateConfig = SurrogateConfig(),
        seed: int = 0,
    ) -> None:
        super().__init__(space, config=config, seed=seed)
        self._knapsack, self._neighbours = Knapsack(space), config.neighbours

    def _generated(self) -> Iterable[IntArray]:
        losses = pair_losses(self._thetas())
        solved = np.stack([self._projected(bits) for bits in self._knapsack.solve(losses)])
        yield solved
        yield self._knapsack.neighbours(losses[0], solved[0], self._neighbours // 2)
        if self._observations.best is not None:
            yield self._knapsack.neighbours(losses[0], self._observations.best[0], self._neighbours)
