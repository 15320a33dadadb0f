"""Surrogate of a run: a reward model fitted to its policies, and the best policies that it predicts.

The reward model of `agents.reward_model` has a policy's loss as a sum of terms, one for every (decision, weights or
activations, width). For such a sum the best policy within the budgets is a multiple-choice knapsack, whose linear
relaxation bounds it from below and prices the budgets (Boyd and Vandenberghe 2004, section 5.6).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from agents.ilp import ILP
from agents.loss_terms import theta_from_prior
from agents.reward_model import RewardModel
from agents.score_transform import fit_ceiling, log_losses
from envs.choices import Choices, IntArray
from haq.experiment.methods import search_space

FloatArray = NDArray[np.float64]
MIN_POLICIES, MAX_POLICIES = 4, 300
"""Least and largest number of policies that a model is fitted to; a fit to more takes minutes."""
SCALES_FROM = 6
"""Number of policies from which on the scales of the prior are fitted too."""
_RANGE = 1e3
"""Range to which losses are scaled for the solver, whose tolerances are absolute."""


class Predicted(NamedTuple):
    """Predicted reward, and the rewards one standard deviation below and above."""

    reward: float
    low: float
    high: float


class Relaxed(NamedTuple):
    """Solution of the relaxed program."""

    loss: float
    """Lower bound of the loss of any policy within the limits."""
    prices: FloatArray
    """Decrease of the loss per unit of each limit, [constraint]."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Reward model fitted to policies; losses are in units of the reward."""

    choice: Choices
    ceiling: float
    """Reward without any loss."""
    policies: int
    """Number of policies that it was fitted to."""
    _model: RewardModel

    def predict(self, bits: IntArray) -> Predicted:
        """Predict the reward of a policy [decision, 2]."""
        mean, std = (float(each[0]) for each in self._model.predict(bits[None]))
        reward, low, high = (self.ceiling - np.exp(mean + sigmas * std) for sigmas in (0, 1, -1))
        return Predicted(float(reward), float(low), float(high))

    @property
    def losses(self) -> FloatArray:
        """Loss of every pair of bits, [decision, w_bits, a_bits]."""
        return _pairs(self._model.theta)

    def draw_losses(self, generator: np.random.Generator, count: int) -> FloatArray:
        """Sample the losses from the posterior, [draw, decision, w_bits, a_bits]."""
        return _pairs(self._model.sample(generator, count))


def fit_surrogate(choice: Choices, bits: IntArray, rewards: FloatArray) -> Surrogate:
    """Fit the reward model to the policies of a run.

    Of more than `MAX_POLICIES` it takes the best ones for half of that number, and for the other half policies evenly
    spread over the remaining ranks.

    Args:
        choice: Allowed bits and their costs.
        bits: Distinct policies, [policy, decision, 2].
        rewards: Their rewards, [policy].

    Raises:
        ValueError: If there are fewer than `MIN_POLICIES`.
    """
    if len(bits) < MIN_POLICIES:
        raise ValueError(f"a model of the reward takes at least {MIN_POLICIES} different policies, got {len(bits)}")
    if len(bits) > MAX_POLICIES:
        ranks = np.argsort(-rewards, kind="stable")
        others = (
            np.linspace(MAX_POLICIES // 2, len(bits) - 1, MAX_POLICIES - MAX_POLICIES // 2).round().astype(np.int64)
        )
        kept = np.sort(np.concatenate((ranks[: MAX_POLICIES // 2], ranks[others])))
        bits, rewards = bits[kept], rewards[kept]
    model = RewardModel(theta_from_prior(search_space(choice).nominal_prior))
    ceiling = fit_ceiling(model, bits, rewards)
    targets = log_losses(rewards, ceiling)
    model.fit(bits, targets)
    if len(bits) >= SCALES_FROM:
        model.fit_scales()
        model.fit(bits, targets)
    return Surrogate(choice, ceiling, len(bits), model)


def loss_of(losses: FloatArray, bits: IntArray) -> float:
    """Sum the losses [decision, w_bits, a_bits] of a policy [decision, 2]."""
    return float(losses[np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1].sum())


def relax(choice: Choices, losses: FloatArray) -> Relaxed:
    """Minimize the summed losses [decision, w_bits, a_bits] within the limits, with mixtures of pairs of bits allowed.

    At least one policy has to be within the limits of the choice.
    """
    where = np.argwhere(choice.allowed)
    each, scale = losses[tuple(where.T)], float(np.ptp(losses[choice.allowed])) or 1.0
    load = choice.cost[:, *where.T] / choice.limits[:, None]
    solved = linprog(
        each * (_RANGE / scale),
        A_ub=load,
        b_ub=np.ones(len(load)),
        A_eq=(where[:, 0] == np.arange(len(choice.names))[:, None]).astype(np.float64),
        b_eq=np.ones(len(choice.names)),
        bounds=(0, 1),
    )
    assert solved.status == 0, solved.message
    prices = np.maximum(-solved.ineqlin.marginals, 0) * (scale / _RANGE) / choice.limits
    return Relaxed(float(solved.fun) * scale / _RANGE, np.asarray(prices))


def least_loss(choice: Choices, losses: FloatArray) -> IntArray:
    """Return the policy [decision, 2] with the least summed losses within the limits."""
    return ILP(replace(search_space(choice), prior=losses)).propose()


def regrets(choice: Choices, bits: IntArray, losses: Sequence[FloatArray]) -> FloatArray:
    """Return by which fraction the relaxed program lowers the loss of a policy, [draw].

    A fraction, because the policy's own loss was measured; samples of the losses only differ in its composition.

    Args:
        choice: Allowed bits and limits.
        bits: The policy, [decision, 2].
        losses: Samples of the losses, each [decision, w_bits, a_bits].
    """
    own = [loss_of(each, bits) for each in losses]
    bounds = [relax(choice, each).loss for each in losses]
    return np.array([max(1 - bound / loss, 0.0) if loss > 0 else 0.0 for bound, loss in zip(bounds, own, strict=True)])


def _pairs(theta: FloatArray) -> FloatArray:
    """Return losses [..., decision, w_bits, a_bits] from theta [..., decision, 2, width]."""
    noise = np.exp(theta)
    return np.asarray(noise[..., 0, :, None] + noise[..., 1, None, :])
