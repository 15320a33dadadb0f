"""Tree-structured Parzen estimator, from Optuna."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from agents.archive import Archive, best_and_latest
from agents.base import IntArray
from agents.evolution import initial_policies
from agents.space import SearchSpace

_MAX_ATTEMPTS = 5
_TRIALS = 1_000
"""Number of trials that the sampler sees when it forgets others, at twice this number: its time grows with them."""


class TPE:
    """`Proposer` around Optuna's multivariate `TPESampler` (Bergstra et al., NeurIPS 2011) with its other defaults.

    Each decision has two integer parameters, w_bits and a_bits. Suggestions are projected, and the projected point is
    reported to the sampler; policies from elsewhere are added as trials too. The first proposals are one greedy by the
    prior and a few uniform ones. In long searches the sampler sees only the best and the latest of the trials.

    Args:
        space: Search space.
        seed: Seed of the sampler.

    Raises:
        ImportError: Optuna is not installed; the message names the extra to install.
    """

    def __init__(self, space: SearchSpace, *, seed: int = 0) -> None:
        self._optuna = _import_optuna()
        self._space = space
        self._seed = seed
        self._initial = initial_policies(space, uniform=4)
        # The sampler is limited to a box per decision; the projection enforces all other constraints.
        where = [space.pairs(decision) for decision in range(len(space.names))]
        self._low, self._high = (np.array([limit(pairs, axis=0) for pairs in where]) for limit in (np.min, np.max))
        self._distributions = {
            f"{decision} {'wa'[column]}": self._optuna.distributions.IntDistribution(
                int(self._low[decision, column]), int(self._high[decision, column])
            )
            for decision, column in np.argwhere(self._low < self._high)
        }
        self._reset()

    def _reset(self) -> None:
        self._archive = Archive(self._space)
        self._drawn = 0
        self._start_study([])

    def _start_study(self, observations: Iterable[tuple[IntArray, float]]) -> None:
        """Start a new study with the given trials."""
        self._study = _silent_study(self._optuna)
        self._observations: list[tuple[IntArray, float]] = []
        self._asked = 0
        for bits, score in observations:
            self._add_trial(bits, score)

    def propose(self) -> IntArray:
        """Return an initial policy, or a new suggestion of the sampler.

        If all attempts were proposed before, the best policy is returned.
        """
        for _ in range(len(self._initial) + _MAX_ATTEMPTS):
            bits = self._next()
            if bits not in self._archive:
                self._archive.add_pending(bits)
                return bits
        return self._archive.best

    def _next(self) -> IntArray:
        self._drawn += 1
        if self._drawn <= len(self._initial):
            return self._initial[self._drawn - 1].copy()
        # A fresh sampler for each suggestion makes it depend only on its number and the trials.
        seed = int(np.random.SeedSequence([self._seed, self._drawn]).generate_state(1)[0])
        self._study.sampler = self._optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=False)
        if self._asked >= 2 * _TRIALS:
            self._start_study(self._observations)
        self._asked += 1
        trial = self._study.ask(self._distributions)
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        bits = self._low.copy()
        bits[self._free] = [trial.params[name] for name in self._distributions]
        return self._space.project(bits)

    @property
    def _free(self) -> tuple[Any, ...]:
        """Index of the entries of bits [decision, 2] that the sampler chooses, in the order of the distributions."""
        return np.nonzero(self._low < self._high)

    def tell(self, bits: IntArray, score: float) -> None:
        """Record the score of a policy, as a trial of its own."""
        if not self._archive.record(bits, score):
            return
        if len(self._observations) >= 2 * _TRIALS:
            scores = np.array([score for _, score in self._observations])
            self._start_study([self._observations[number] for number in best_and_latest(-scores, _TRIALS)])
        self._add_trial(bits, score)

    def _add_trial(self, bits: IntArray, score: float) -> None:
        self._observations.append((bits.copy(), score))
        params = dict(zip(self._distributions, bits[self._free].tolist(), strict=True))
        trial = self._optuna.trial.create_trial(params=params, distributions=self._distributions, value=score)
        self._study.add_trial(trial)

    def state_dict(self) -> dict[str, Any]:
        """Return the archive, the observations in their order, and the number of policies drawn."""
        bits = np.array([bits for bits, _ in self._observations], dtype=np.int64).reshape(-1, len(self._space.names), 2)
        return {
            "archive": self._archive.state_dict(),
            "told": torch.from_numpy(bits),
            "scores": torch.tensor([score for _, score in self._observations], dtype=torch.float64),
            "seed": self._seed,
            "drawn": self._drawn,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict` by repeating the trials in the same order."""
        self._reset()
        self._start_study(zip(state["told"].numpy(), state["scores"].tolist(), strict=True))
        self._archive.load_state_dict(state["archive"])
        self._seed = state["seed"]
        self._drawn = state["drawn"]


def _import_optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise ImportError("the agent tpe needs optuna, which is not installed: pip install 'haq[tpe]'") from error
    return optuna


def _silent_study(optuna: Any) -> Any:
    """Create a study without a line in the log."""
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return optuna.create_study(direction="maximize")
    finally:
        optuna.logging.set_verbosity(verbosity)
