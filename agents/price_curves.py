"""Lagrangian relaxation of bit allocation: what every budget buys, for the decisions from any one on.

Under a price per unit of cost, every decision takes the pair of bits of least loss plus price (generalized Lagrange
multipliers, Everett 1963). The costs and losses of all decisions to come, at prices from high to low, are a curve: the
least loss that a budget leaves, up to the rounding of the last decision.
"""

import numpy as np
from numpy.typing import NDArray

from agents.base import FloatArray, IntArray

PRICES = 16
"""Number of prices of a curve."""
_HALVINGS = 26
_LOG_PRICES = (-30.0, 20.0)


class PriceCurves:
    """Curves of several loss models of the same decisions.

    Args:
        theta: Logarithms of the losses of all terms, [model, decision, 2, width].
        load: Costs in parts of the budget, [decision, w_bits, a_bits].
        allowed: Pairs that may be chosen, [decision, w_bits, a_bits].

    Attributes:
        terms: Losses of all terms, relative to the largest of each model, [model, decision, 2, width].
        bits: Bits of every decision at every price, the highest price first, [model, price, decision, 2].
    """

    def __init__(self, theta: FloatArray, load: FloatArray, allowed: NDArray[np.bool_]) -> None:
        self.terms = np.exp(theta - theta.max(axis=(1, 2, 3), keepdims=True))
        rows = np.arange(len(load))
        w_count, a_count = load.shape[1:]
        pairs = self.terms[:, :, 0, :w_count, None] + self.terms[:, :, 1, None, :a_count]
        losses = np.where(allowed, pairs, np.inf).reshape(*theta.shape[:2], -1)
        loads = np.where(allowed, load, np.inf).reshape(len(load), -1)
        chosen = _choose(losses, loads)
        self.bits = np.stack(np.divmod(chosen, a_count), axis=-1) + 1
        self._loads = _to_go(loads[rows, chosen])
        self._losses = _to_go(losses[np.arange(len(theta))[:, None, None], rows, chosen])

    def losses_to_go(self, models: IntArray, decision: int, loads: FloatArray) -> FloatArray:
        """Return the least loss of the decisions from one on, within some loads.

        Args:
            models: Model of each rollout, [rollout].
            decision: Position of the first decision that counts; the number of decisions for none.
            loads: Loads that these decisions may have, [rollout, ...].

        Returns:
            Losses [rollout, ...], relative to the largest term of the model.
        """
        before, share = self._locate(models, decision, loads)
        losses, rows = self._losses[models, :, decision], np.arange(len(models))[:, None]
        left, right = losses[rows, before], losses[rows, before + 1]
        return np.asarray((left + share * (right - left)).reshape(loads.shape))

    def positions(self, models: IntArray, decision: int, loads: FloatArray) -> FloatArray:
        """Return where on the curve the decisions from one on have some loads.

        Args:
            models: Model of each rollout, [rollout].
            decision: Position of the first decision that counts.
            loads: Loads of these decisions, [rollout].

        Returns:
            Positions [rollout]: 0 at the highest price, 1 at the lowest.
        """
        before, share = self._locate(models, decision, loads)
        return np.asarray((before + share)[:, 0] / (PRICES - 1))

    def _locate(self, models: IntArray, decision: int, loads: FloatArray) -> tuple[IntArray, FloatArray]:
        """Find the price before every load, and the share of the way to the next one, [rollout, load] each."""
        curve, wanted = self._loads[models, :, decision], loads.reshape(len(models), -1)
        before = (curve[:, None, 1:-1] < wanted[:, :, None]).sum(axis=2)
        rows = np.arange(len(models))[:, None]
        left, right = curve[rows, before], curve[rows, before + 1]
        width = right - left
        share = np.where(width > 0, (wanted - left) / np.where(width > 0, width, 1), 1.0)
        return before, share.clip(0, 1)


def _choose(losses: FloatArray, loads: FloatArray) -> IntArray:
    """Choose pairs at prices whose loads are spaced evenly on a logarithmic scale, by bisection of the prices.

    Args:
        losses: Losses [model, decision, pair].
        loads: Loads [decision, pair].

    Returns:
        Pairs [model, price, decision].
    """
    rows = np.arange(len(loads))
    most = loads[rows, losses.argmin(axis=2)].sum(axis=1)
    least = max(loads.min(axis=1).sum(), 1e-9 * most.max(), 1e-300)  # costs may be 0
    wanted = least * (np.maximum(most, least) / least)[:, None] ** np.linspace(0, 1, PRICES)

    def at(log_prices: FloatArray) -> IntArray:
        prices = np.exp(log_prices)[:, :, None, None] / least
        return np.asarray((losses[:, None] + prices * loads).argmin(axis=3))

    low, high = (np.full(wanted.shape, each) for each in _LOG_PRICES)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        fits = loads[rows, at(middle)].sum(axis=2) <= wanted * (1 + 1e-9)
        low, high = np.where(fits, low, middle), np.where(fits, middle, high)
    return at(high)


def _to_go(values: FloatArray) -> FloatArray:
    """Sum values [model, price, decision] from every decision to the last; one more entry, for none, is 0."""
    summed = values[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
    return np.concatenate((summed, np.zeros((*values.shape[:2], 1))), axis=2)
