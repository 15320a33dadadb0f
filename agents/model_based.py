"""Search with a model of the reward: few evaluations, each selected from many candidates by what the model expects.

Every evaluation updates a Bayesian model of the loss (`agents.reward_model`) that starts from the space's prior. The
first proposal is the best candidate under the prior, the second the best uniform policy, for which errors of the
prior matter less. After an evaluation that improved the best score, the candidate of highest expected score is
proposed. After others that happens at every `exploit_every`-th evaluation without improvement, and in between the
candidate of largest expected improvement is proposed. Where candidates come from is up to the subclass.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import torch
from torch import Generator

from agents.acquisition import log_expected_improvement
from agents.base import FloatArray, IntArray
from agents.loss_terms import theta_from_prior
from agents.observations import Observations
from agents.policy_keys import to_key
from agents.reward_model import DEFAULT_SCALES, MEASURED_PRIOR_SCALES, RewardModel
from agents.score_transform import fit_ceiling, log_losses
from agents.space import SearchSpace
from agents.uniform import uniform_policies

_MAX_ATTEMPTS = 20
_REFIT_RATIO = 1.4
"""Growth of the number of observations after which the scales of the prior are fitted again."""


def at_least(least: int, *, default: int) -> int:
    """Make the field of an integer setting that has a smallest value.

    Args:
        least: The smallest value.
        default: Default.

    Returns:
        The field of a dataclass.
    """
    made: int = field(default=default, metadata={"least": least})
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBasedConfig:
    """Settings of a search with a model of the reward.

    Args:
        posterior_samples: Samples of the posterior for which candidates are generated per proposal.
        max_candidates: Candidates that are kept from proposal to proposal.
        max_observations: Observations that the model is fitted to: those of scores near the best, and the latest.
        exploit_every: Number of evaluations without improvement after which the candidate of highest expected score is
            proposed again; in between the one of largest expected improvement.
        max_scale_observations: Observations that the scales of the prior are fitted to.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> ModelBasedConfig(exploit_every=0)
        Traceback (most recent call last):
        ValueError: exploit_every must be an integer of at least 1, got 0
    """

    posterior_samples: int = at_least(0, default=6)
    max_candidates: int = at_least(1, default=200)
    max_observations: int = at_least(2, default=300)
    exploit_every: int = at_least(1, default=2)
    max_scale_observations: int = at_least(2, default=120)

    def __post_init__(self) -> None:
        for each in fields(self):
            value, least = getattr(self, each.name), each.metadata.get("least")
            if least is not None and (not isinstance(value, int) or value < least):
                raise ValueError(f"{each.name} must be an integer of at least {least}, got {value!r}")


class ModelBasedSearch(ABC):
    """`Proposer` that selects policies by a model of the reward; subclasses generate the candidates.

    `tell` accepts any policy of the network, including those that exceed the budgets of `space`, as the loss does not
    depend on budgets.

    Args:
        space: Search space, with or without a measured prior.
        config: Settings.
        seed: Seed of all random numbers.

    Attributes:
        model: Model of the logarithm of the loss, up to date after `fit_model`.
        ceiling: Score of zero loss, up to date after `fit_model`.
    """

    def __init__(
        self,
        space: SearchSpace,
        *,
        config: ModelBasedConfig,
        seed: int,
    ) -> None:
        self.model = RewardModel(
            theta_from_prior(space.nominal_prior),
            prior_scales=DEFAULT_SCALES if space.prior is None else MEASURED_PRIOR_SCALES,
        )
        self.ceiling = 0.0
        self._space, self._config = space, config
        self._uniform = space.project(next(uniform_policies(space)))
        self._generator = Generator().manual_seed(seed)
        self._observations = Observations(space)
        self._pool: dict[bytes, IntArray] = {}
        self._pending: dict[bytes, IntArray] = {}
        self._since_improvement = 0
        self._next_scale_fit = 6

    def propose(self) -> IntArray:
        """Return the next policy [decision, 2] within the budgets, a new one if there is any."""
        self.fit_model()
        unscored = self._unscored()
        if len(unscored):
            self._expect(unscored)
        candidates = self._candidates()
        tried, uniform = self._observations.count + len(unscored), to_key(self._uniform)
        if tried == 1 and uniform not in self._observations and uniform not in self._pending:
            candidates = self._uniform[None]
        bits = self._select(candidates) if len(candidates) else self._fallback()
        self._pending[to_key(bits)] = bits.copy()
        return bits

    def tell(self, bits: IntArray, score: float) -> None:
        """Record the score of a policy.

        Args:
            bits: The policy, [decision, 2], within the budgets or not.
            score: Its score, higher is better.

        Raises:
            ValueError: The policy has another shape, or the score is not finite.
        """
        if bits.shape != (len(self._space.names), 2) or (bits < 1).any() or (bits > self.model.shape[2]).any():
            raise ValueError(f"a policy of this space must be bits [{len(self._space.names)}, 2], got {bits.tolist()}")
        if not math.isfinite(score):
            raise ValueError(f"a score must be finite, got {score}")
        self._since_improvement = 0 if self._observations.add(bits, score) else self._since_improvement + 1
        for waiting in (self._pool, self._pending):
            waiting.pop(to_key(bits), None)

    def predict(self, bits: IntArray) -> tuple[FloatArray, FloatArray]:
        """Predict scores; losses are log-normal.

        Args:
            bits: Policies [policy, decision, 2].

        Returns:
            Mean and standard deviation of the scores, [policy] each.
        """
        mean, std = self.model.predict(bits)
        loss = np.exp(mean + std**2 / 2)
        return self.ceiling - loss, loss * np.sqrt(np.expm1(std**2))

    def fit_model(self) -> None:
        """Fit `model` and `ceiling` to the observations; called by `propose`."""
        if not self._observations.count:
            return
        bits, scores = self._observations.select(self._config.max_observations)
        due = self._observations.count >= self._next_scale_fit
        if due or scores.max() >= self.ceiling:
            self.ceiling = fit_ceiling(self.model, bits, scores)
        targets, best = log_losses(scores, self.ceiling), self._best_log_loss(scores)
        self.model.fit(bits, targets, best=best)
        if due:
            near = np.sort(np.argsort(np.abs(targets - best), kind="stable")[: self._config.max_scale_observations])
            self.model.fit(bits[near], targets[near], best=best)
            self.model.fit_scales()
            self.model.fit(bits, targets, best=best)
            self._next_scale_fit = int(_REFIT_RATIO * self._observations.count) + 1

    def _unscored(self) -> IntArray:
        """Return the proposed policies [policy, decision, 2] whose scores are not known yet."""
        waiting = [bits for key, bits in self._pending.items() if key not in self._observations]
        return np.array(waiting, dtype=np.int64).reshape(-1, len(self._space.names), 2)

    def _expect(self, unscored: IntArray) -> None:
        """Fit the model as if policies without scores had their expected ones, so that further proposals differ.

        Ginsbourger et al. 2010, Kriging is well-suited to parallelize optimization: the kriging believer.
        """
        if not self._observations.count:
            return
        bits, scores = self._observations.select(self._config.max_observations)
        targets, best = log_losses(scores, self.ceiling), self._best_log_loss(scores)
        expected, _ = self.model.predict(unscored)
        self.model.fit(np.concatenate((bits, unscored)), np.concatenate((targets, expected)), best=best)

    def _best_log_loss(self, scores: FloatArray) -> float:
        """Log loss of the best observed policy within the budgets, or else of the best of all."""
        best = self._observations.best
        return float(log_losses(np.array(scores.max() if best is None else best[1]), self.ceiling))

    @abstractmethod
    def _generated(self) -> Iterable[IntArray]:
        """Return groups of policies within the budgets, [policy, decision, 2] each, in a deterministic order."""

    def _candidates(self) -> IntArray:
        """Return distinct new policies [policy, decision, 2] within the budgets, those of earlier proposals last."""
        found = {to_key(bits): bits for group in self._generated() for bits in group} | self._pool
        new = [bits for key, bits in found.items() if key not in self._observations and key not in self._pending]
        return np.array(new, dtype=np.int64)

    def _projected(self, bits: IntArray) -> IntArray:
        """Project a policy if it exceeds a budget, which can happen under several budgets."""
        return bits if self._space.fits(bits) else self._space.project(bits)

    def _thetas(self) -> FloatArray:
        """Return the most probable theta and samples of the posterior, [model, decision, 2, width]."""
        # The first proposal is the best policy under the prior mean.
        count = self._config.posterior_samples if self._observations.count else 0
        return np.concatenate((self.model.theta[None], self.model.sample(self._numpy_generator(), count)))

    def _select(self, candidates: IntArray) -> IntArray:
        best, turn = self._observations.best, self._since_improvement + len(self._unscored())
        if best is None or turn % self._config.exploit_every == 0:
            mean = self.model.predict_mean(candidates)
            chosen = mean.argmin()
        else:
            mean, std = self.model.predict(candidates)
            target = float(log_losses(np.array(best[1]), self.ceiling))
            chosen = log_expected_improvement(mean, std, target).argmax()
        kept = candidates[np.argsort(mean, kind="stable")[: self._config.max_candidates]]
        self._pool = {to_key(bits): bits for bits in kept}
        return np.array(candidates[chosen])

    def _fallback(self) -> IntArray:
        """Return a random policy if there is no new candidate; the best policy if no random one is new either."""
        generator = self._numpy_generator()
        for _ in range(_MAX_ATTEMPTS):
            bits = self._space.sample(generator)
            if to_key(bits) not in self._observations and to_key(bits) not in self._pending:
                return bits
        return bits if self._observations.best is None else self._observations.best[0].copy()

    def _numpy_generator(self) -> np.random.Generator:
        """NumPy generator seeded by the torch generator, so that one state determines all random numbers."""
        return np.random.default_rng(int(torch.randint(2**62, (), generator=self._generator)))

    def state_dict(self) -> dict[str, Any]:
        """Return everything but space and configuration."""
        # The keys are part of the format of checkpoint files.
        return {
            "model": self.model.state_dict(),
            "generator": self._generator.get_state(),
            "ceiling": self.ceiling,
            **self._observations.state_dict(),
            "kept": [torch.tensor(bits) for bits in self._pool.values()],
            "asked": [torch.tensor(bits) for bits in self._pending.values()],
            "in_vain": self._since_improvement,
            "scales_at": self._next_scale_fit,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state.

        Args:
            state: Result of `state_dict`, with equal space and configuration.
        """
        self.model.load_state_dict(state["model"])
        self._generator.set_state(state["generator"])
        self.ceiling = state["ceiling"]
        self._observations.load_state_dict(state)
        self._pool, self._pending = (
            {to_key(bits.numpy()): bits.numpy().copy() for bits in state[name]} for name in ("kept", "asked")
        )
        self._since_improvement = state["in_vain"]
        self._next_scale_fit = state["scales_at"]
