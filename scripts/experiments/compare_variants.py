"""Compare variants of the search methods with `haq compare`, whose arguments it takes.

    python scripts/experiments/compare_variants.py --agents surrogate,surrogate-without-exchanges,ddpg --seeds 8 ...

Further names for `--agents`: the parts of `surrogate` left out one at a time, the actor of `ddpg` without training
during the search, and plain DDPG, which learns from the evaluations alone.
"""

import sys
from collections.abc import Iterable

from agents.base import Agent, IntArray, RolloutSimulator
from agents.ddpg import DDPG
from agents.loss_terms import pair_losses
from agents.registry import METHODS, SearchMethod
from agents.rollout_ddpg import RolloutDDPG, RolloutDDPGConfig
from agents.space import SearchSpace
from agents.surrogate import Surrogate, SurrogateConfig
from haq.__main__ import main


class WithoutSolver(Surrogate):
    """Surrogate whose candidates are exchanges of bits around the best observed policy; the first policy is random."""

    def _generated(self) -> Iterable[IntArray]:
        if self._observations.best is None:
            yield self._space.sample(self._numpy_generator())[None]
        else:
            losses = pair_losses(self._thetas())
            yield self._knapsack.neighbours(losses[0], self._observations.best[0], self._neighbours)


def _plain_ddpg(_: SearchSpace, simulator: RolloutSimulator, seed: int) -> Agent:
    return DDPG(simulator.observation_size, seed=seed)


VARIANTS = {
    "surrogate-without-exchanges": SearchMethod(
        lambda space, _, seed: Surrogate(space, config=SurrogateConfig(neighbours=0), seed=seed)
    ),
    "surrogate-without-samples": SearchMethod(
        lambda space, _, seed: Surrogate(space, config=SurrogateConfig(posterior_samples=0), seed=seed)
    ),
    "surrogate-without-solver": SearchMethod(lambda space, _, seed: WithoutSolver(space, seed=seed)),
    "ddpg-not-trained-further": SearchMethod(
        lambda space, simulator, seed: RolloutDDPG(
            space, simulator, config=RolloutDDPGConfig(training_rounds=0), seed=seed
        )
    ),
    "ddpg-plain": SearchMethod(_plain_ddpg, uses_prior=False),
}

if __name__ in ("__main__", "__mp_main__"):  # the second is the name of this module in worker processes
    METHODS.update(VARIANTS)

if __name__ == "__main__":
    sys.exit(main(["compare", *sys.argv[1:]]))
