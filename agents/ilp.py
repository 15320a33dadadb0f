"""Integer programming over additive losses."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from agents.archive import Archive
from agents.base import FloatArray, IntArray
from agents.greedy import greedy_policy
from agents.space import SearchSpace

_RANGE = 1e4
"""Range of the summed objective in the solver's units; its absolute gap of 1e-6 is then negligible."""
_GAP = 1e-4 * _RANGE
"""Initial width of the core, which grows on demand."""
_SLACK = 1e-7 * _RANGE
"""Slack of bounds that hold exactly, for rounding."""


class ILP:
    """Integer-programming `Proposer`: policies in order of expected loss, so that N proposals are the N best.

    A multiple-choice knapsack over the prior, one pair per decision under all budgets, solved by HiGHS, as HAWQ-V3 (Yao
    et al., ICML 2021, arXiv 2011.10680) does over its sensitivities. Policies in the archive are excluded by cuts, or
    by a loss below that of the last proposal, so that scores select among the best by the prior, but never correct it.
    Without a measured prior, `SearchSpace.nominal_prior` is used: the relative error of uniform quantizers, each
    decision with the same weight. Proposals are not projected: budget that the prior has no use for stays unspent. Ties
    are broken by HiGHS, deterministically. When all policies are in the archive, the best one is proposed again.

    Args:
        space: Search space with its prior.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._archive = Archive(space)
        self._rejected: list[IntArray] = []
        self._choices = np.argwhere(space.allowed)
        """[choice, 3]: decision and position of the pair, one row for each variable of the program."""
        self._one_each = (self._choices[:, 0] == np.arange(len(space.names))[:, None]).astype(np.float64)
        """[decision, choice]"""
        self._load = space.cost[:, *self._choices.T] / space.budget[:, None]
        """[constraint, choice], in parts of the budget."""
        self._loss = self._scaled_prior()
        self._loss_of_pairs = np.zeros(space.allowed.shape)
        self._loss_of_pairs[tuple(self._choices.T)] = self._loss
        self._bound, self._excess = self._lagrangian()
        self._gap = _GAP
        self._floor = 0.0

    def propose(self) -> IntArray:
        """Return the policy of least expected loss that is not in the archive."""
        bits = self._solve()
        # The solver's tolerance is 1e-6. Infeasible solutions are excluded by cuts: a margin could lose the optimum.
        while bits is not None and not self._space.fits(bits):
            self._rejected.append(bits)
            bits = self._solve()
        if bits is None:
            bits = self._archive.best if len(self._archive) else greedy_policy(self._space)
        self._archive.add_pending(bits)
        return bits

    def _solve(self) -> IntArray | None:
        """Find the best solution that is not excluded; None if there is none.

        Solves within a core of choices (Pisinger 1995): a policy with a choice outside the core loses more than bound +
        gap, so a solution in the core up to that loss is the global optimum. If the core has none, it grows.
        """
        while True:
            core = np.flatnonzero(self._excess <= self._gap)
            taken = self._solve_within(core)
            loss = float(self._loss[taken].sum())
            if len(taken) and (loss <= self._bound + self._gap or len(core) == len(self._choices)):
                self._floor = loss
                return np.asarray(self._choices[taken, 1:] + 1)
            if len(core) == len(self._choices):
                return None
            self._gap *= 2

    def _solve_within(self, core: IntArray) -> IntArray:
        """Return the selected choices, one for each decision; empty if there is no solution."""
        decisions = len(self._space.names)
        excluded = [self._indicator(bits)[core] for bits in self._not_below_floor()]
        cuts = [taken for taken in excluded if taken.sum() == decisions]
        constraints = [
            LinearConstraint(csr_array(self._one_each[:, core]), 1, 1),
            LinearConstraint(self._load[:, core], ub=1),
            # No solution is better than the previous one; proving it again would take half of the solver's time.
            LinearConstraint(self._loss[None, core], lb=self._floor - _SLACK),
            *([LinearConstraint(csr_array(np.stack(cuts)), ub=decisions - 1)] if cuts else []),
        ]
        result = milp(
            self._loss[core],
            constraints=constraints,
            integrality=np.ones(len(core)),
            bounds=Bounds(0, 1),
            # Presolving does not speed up a core, and HiGHS 1.12 may print a line in postsolve.
            options={"mip_rel_gap": 0, "presolve": False},
        )
        return core[:0] if result.x is None else core[result.x > 0.5]

    def _not_below_floor(self) -> IntArray:
        """Return the archived and infeasible policies [policy, decision, 2] that the bound of the loss allows.

        Few losses are equal, so that their number does not grow with that of the proposals.
        """
        rejected = np.array(self._rejected, dtype=np.int64).reshape(-1, len(self._space.names), 2)
        bits = np.concatenate((self._archive.bits, rejected))
        losses = self._loss_of_pairs[np.arange(bits.shape[1]), bits[:, :, 0] - 1, bits[:, :, 1] - 1].sum(axis=1)
        return np.asarray(bits[losses >= self._floor - 2 * _SLACK])

    def _scaled_prior(self) -> FloatArray:
        """Expected losses [choice], 0 for every decision's best pair, in units that suit the solver's tolerance."""
        allowed, prior = self._space.allowed, self._space.nominal_prior
        least = np.where(allowed, prior, np.inf).min(axis=(1, 2))
        most = np.where(allowed, prior, -np.inf).max(axis=(1, 2))
        span = (most - least).sum() or 1.0
        return np.asarray((prior[tuple(self._choices.T)] - least[self._choices[:, 0]]) * (_RANGE / span))

    def _lagrangian(self) -> tuple[float, FloatArray]:
        """Compute a lower bound of every policy's loss, and the least increase of it by each choice, [choice].

        Any prices of the budgets give a bound (weak duality); those of the relaxed program give the highest one.
        """
        ones, limits = np.ones(len(self._space.names)), np.ones(len(self._space.budget))
        relaxed = linprog(self._loss, A_ub=self._load, b_ub=limits, A_eq=self._one_each, b_eq=ones, bounds=(0, None))
        prices = np.maximum(-relaxed.ineqlin.marginals, 0) if relaxed.status == 0 else 0 * limits
        priced = self._loss + prices @ self._load
        least = np.where(self._one_each > 0, priced, np.inf).min(axis=1)
        return float(least.sum() - prices.sum()), priced - least[self._choices[:, 0]]

    def _indicator(self, bits: IntArray) -> FloatArray:
        """Indicator [choice] of the choices that make up a policy."""
        return np.asarray((bits[self._choices[:, 0]] == self._choices[:, 1:] + 1).all(axis=1), dtype=np.float64)

    def tell(self, bits: IntArray, score: float) -> None:
        """Record the score of a policy."""
        self._archive.record(bits, score)

    def state_dict(self) -> dict[str, Any]:
        """Return archive, infeasible solutions of the solver, width of the core and last loss."""
        rejected = np.array(self._rejected, dtype=np.int64).reshape(-1, len(self._space.names), 2)
        return {
            "archive": self._archive.state_dict(),
            "refused": torch.from_numpy(rejected),
            "gap": self._gap,
            "floor": self._floor,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state returned by `state_dict`."""
        self._archive.load_state_dict(state["archive"])
        self._rejected = list(state["refused"].numpy().copy())
        self._gap = state["gap"]
        self._floor = state["floor"]
