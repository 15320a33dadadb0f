"""Surrogate of a run: a reward model fitted to its policies, and the best policies that it predicts.

The reward model of `agents.reward_model` expresses the loss of a policy as a sum of terms, one for every (decision,
weights or activations, width). For such a sum the best policy within the budgets is a multiple-choice knapsack problem.
Its linear relaxation gives a lower bound of the loss and the marginal values of the budgets (Boyd and Vandenberghe
2004, section 5.6).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

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
"""Least number of policies for which the scales of the prior are fitted too."""
_RANGE = 1e3
"""Range to which losses are scaled for the solver, whose tolerances are absolute."""


class Predicted(NamedTuple):
    """Predicted reward of a policy.

    Attributes:
        reward: Reward at the mean of the predicted log loss.
        low: Reward one standard deviation below.
        high: Reward one standard deviation above.
    """

    reward: float
    low: float
    high: float


class Relaxed(NamedTuple):
    """Solution of the relaxed program.

    Attributes:
        loss: Lower bound of the loss of any policy within the limits.
        prices: Decrease of the loss per unit of each limit, [constraint].
    """

    loss: float
    prices: FloatArray


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Reward model fitted to policies; losses are in units of the reward.

    Attributes:
        choice: Allowed bits and their costs.
        ceiling: Reward without any loss.
        policies: Number of policies that the model was fitted to.
    """

    choice: Choices
    ceiling: float
    policies: int
    _model: RewardModel

    def predict(self, bits: IntArray) -> Predicted:
        """Predict the reward of a policy.

        Args:
            bits: Bits of weights and activations, [decision, 2].

        Returns:
            The reward at the mean of the predicted log loss, and one standard deviation below and above.
        """
        mean, std = (float(each[0]) for each in self._model.predict(bits[None]))
        reward, low, high = (self.ceiling - np.exp(mean + sigmas * std) for sigmas in (0, 1, -1))
        return Predicted(float(reward), float(low), float(high))

    @property
    def losses(self) -> FloatArray:
        """Loss of every pair of bits, [decision, w_bits, a_bits]."""
        return _pairs(self._model.theta)

    def draw_losses(self, generator: np.random.Generator, count: int) -> FloatArray:
        """Sample the losses from the posterior.

        Args:
            generator: Source of random numbers.
            count: Number of samples.

        Returns:
            Loss of every pair of bits, [sample, decision, w_bits, a_bits].
        """
        return _pairs(self._model.sample(generator, count))


def fit_surrogate(choice: Choices, bits: NDArray[np.integer[Any]], rewards: FloatArray) -> Surrogate:
    """Fit the reward model to the policies of a run.

    If there are more than `MAX_POLICIES`, half of that number are the policies with the highest rewards, and the other
    half are evenly spaced over the remaining ranks.

    Args:
        choice: Allowed bits and their costs.
        bits: Distinct policies, [policy, decision, 2], of any type of integer.
        rewards: Their rewards, [policy].

    Returns:
        The fitted model.

    Raises:
        ValueError: There are fewer than `MIN_POLICIES`.
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
    policies = bits.astype(np.int64)
    model = RewardModel(theta_from_prior(search_space(choice).nominal_prior))
    ceiling = fit_ceiling(model, policies, rewards)
    targets = log_losses(rewards, ceiling)
    model.fit(policies, targets)
    if len(policies) >= SCALES_FROM:
        model.fit_scales()
        model.fit(policies, targets)
    return Surrogate(choice, ceiling, len(policies), model)


def loss_of(losses: FloatArray, bits: IntArray) -> float:
    """Sum the losses of a policy over its decisions.

    Args:
        losses: Loss of every pair of bits, [decision, w_bits, a_bits].
        bits: The policy, [decision, 2].

    Returns:
        The sum.
    """
    return float(losses[np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1].sum())


def relax(choice: Choices, losses: FloatArray) -> Relaxed:
    """Solve the linear relaxation of minimizing the loss within the limits.

    Each decision may be a convex combination of pairs of bits.

    Args:
        choice: Allowed bits, costs and limits; at least one policy must be within the limits.
        losses: Loss of every pair of bits, [decision, w_bits, a_bits].

    Returns:
        The minimum, and the decrease of the loss per unit of each limit.
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
    """Compute the policy with the least loss within the limits.

    Args:
        choice: Allowed bits, costs and limits.
        losses: Loss of every pair of bits, [decision, w_bits, a_bits].

    Returns:
        The policy, [decision, 2].
    """
    return ILP(replace(search_space(choice), prior=losses)).propose()


def regrets(choice: Choices, bits: IntArray, losses: Sequence[FloatArray]) -> FloatArray:
    """Compute the fraction by which the relaxed program lowers the loss of a policy, for several samples of the losses.

    The result is relative because the loss of the policy itself was measured; samples of the losses only differ in its
    composition.

    Args:
        choice: Allowed bits, costs and limits.
        bits: The policy, [decision, 2].
        losses: Samples of the losses, each [decision, w_bits, a_bits].

    Returns:
        Fractions between 0 and 1, [sample].
    """
    policy_losses = [loss_of(each, bits) for each in losses]
    bounds = [relax(choice, each).loss for each in losses]
    return np.array(
        [max(1 - bound / loss, 0.0) if loss > 0 else 0.0 for bound, loss in zip(bounds, policy_losses, strict=True)]
    )


def _pairs(theta: FloatArray) -> FloatArray:
    """Convert log losses theta [..., decision, 2, width] to losses of pairs of bits [..., decision, w_bits, a_bits]."""
    noise = np.exp(theta)
    return np.asarray(noise[..., 0, :, None] + noise[..., 1, None, :])
