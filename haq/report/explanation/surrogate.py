"""What the policies of a run make one believe: how good one is, and how much better another could be.

The reward model of `agents.reward_model` takes a policy's loss for a sum of terms, one for every (decision, weights or
activations, width). Over such a sum the best policy within the budgets is a multiple-choice knapsack, whose linear
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
FEWEST, MOST = 4, 300
"""Policies that a model is fitted to: with fewer there is nothing to learn from, with more it takes minutes."""
SCALES_FROM = 6
"""Policies from which on the model learns how strong its own prior is."""
_RANGE = 1e3
"""The span of the losses as the solver sees them: its tolerances are absolute."""


class Predicted(NamedTuple):
    """A reward, with one standard deviation to either side."""

    reward: float
    low: float
    high: float


class Relaxed(NamedTuple):
    """The relaxed program's answer."""

    loss: float
    """No policy within the limits loses less."""
    prices: FloatArray
    """[constraint]: what the loss falls by for each unit that a limit is raised by."""


@dataclass(frozen=True, slots=True)
class Beliefs:
    """A reward model that was fitted to policies of a choice; losses are in units of the reward."""

    choice: Choices
    ceiling: float
    """The reward of no loss at all."""
    policies: int
    """How many it was fitted to."""
    _model: RewardModel

    def predict(self, bits: IntArray) -> Predicted:
        """The reward of a policy [decision, 2]."""
        mean, std = (float(each[0]) for each in self._model.predict(bits[None]))
        reward, low, high = (self.ceiling - np.exp(mean + sigmas * std) for sigmas in (0, 1, -1))
        return Predicted(float(reward), float(low), float(high))

    @property
    def losses(self) -> FloatArray:
        """What every pair of bits adds to the loss, [decision, w_bits, a_bits]."""
        return _pairs(self._model.theta)

    def draw_losses(self, generator: np.random.Generator, count: int) -> FloatArray:
        """The same [draw, decision, w_bits, a_bits] as it may as well be, in proportion to how probable that is."""
        return _pairs(self._model.sample(generator, count))


def believe(choice: Choices, bits: IntArray, rewards: FloatArray) -> Beliefs:
    """Fit the reward model to distinct policies [policy, decision, 2] and their rewards [policy].

    Of more than `MOST` the best half of that number, and as many of the others, evenly spread over their ranks. Raises
    ValueError for fewer than `FEWEST`.
    """
    if len(bits) < FEWEST:
        raise ValueError(f"a model of the reward takes at least {FEWEST} different policies, got {len(bits)}")
    if len(bits) > MOST:
        ranks = np.argsort(-rewards, kind="stable")
        others = np.linspace(MOST // 2, len(bits) - 1, MOST - MOST // 2).round().astype(np.int64)
        kept = np.sort(np.concatenate((ranks[: MOST // 2], ranks[others])))
        bits, rewards = bits[kept], rewards[kept]
    model = RewardModel(theta_from_prior(search_space(choice).nominal_prior))
    ceiling = fit_ceiling(model, bits, rewards)
    targets = log_losses(rewards, ceiling)
    model.fit(bits, targets)
    if len(bits) >= SCALES_FROM:
        model.fit_scales()
        model.fit(bits, targets)
    return Beliefs(choice, ceiling, len(bits), model)


def loss_of(losses: FloatArray, bits: IntArray) -> float:
    """The summed losses [decision, w_bits, a_bits] of a policy [decision, 2]."""
    return float(losses[np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1].sum())


def relax(choice: Choices, losses: FloatArray) -> Relaxed:
    """The least sum of losses [decision, w_bits, a_bits] within the limits, where pairs of bits may be mixed.

    The limits are those of a choice that some policy meets.
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
    """The policy [decision, 2] within the limits with the least sum of losses, exactly."""
    return ILP(replace(search_space(choice), prior=losses)).propose()


def regrets(choice: Choices, bits: IntArray, losses: Sequence[FloatArray]) -> FloatArray:
    """How much less than a policy [decision, 2] the relaxed program loses, in parts of what the policy loses itself.

    In parts, as what the policy loses was measured: draws of the losses tell of the way that it is made up.
    """
    own = [loss_of(each, bits) for each in losses]
    bounds = [relax(choice, each).loss for each in losses]
    return np.array([max(1 - bound / loss, 0.0) if loss > 0 else 0.0 for bound, loss in zip(bounds, own, strict=True)])


def _pairs(theta: FloatArray) -> FloatArray:
    """Losses [..., decision, w_bits, a_bits] from theta [..., decision, 2, width]."""
    noise = np.exp(theta)
    return np.asarray(noise[..., 0, :, None] + noise[..., 1, None, :])
