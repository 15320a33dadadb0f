"""The rival that solves: integer programming over losses that add up."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from agents.archive import Archive
from agents.base import IntArray
from agents.greedy import greedy_policy
from agents.space import SearchSpace

FloatArray = NDArray[np.float64]
_RANGE = 1e4
"""The span of the objective, sum over decisions, as the solver sees it: its absolute gap of 1e-6 is then nothing."""
_GAP = 1e-4 * _RANGE
"""Where the core starts: it grows by itself."""
_SLACK = 1e-7 * _RANGE
"""By how much a bound that is known to hold is loosened, for the sake of rounding."""


class ILP:
    """A `Proposer` of the policies with the least expected loss, exactly and in order: N proposals are the N best.

    A multiple-choice knapsack over the prior, one pair for each decision under all budgets, solved by HiGHS, as
    HAWQ-V3 (Yao et al., ICML 2021, arXiv 2011.10680) does over its sensitivities. Every policy known already is cut
    off, so that true scores decide among the best by the prior, but never correct it. Where nobody measured a prior it
    is that of `SearchSpace.nominal_prior`: the noise of uniform quantizers, each decision with the same weight.
    Proposals are not projected: a rest of the budget without a use by the prior stays unspent. Equal losses: whichever
    HiGHS finds, always the same. When all policies are known, the best one again.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        self._archive = Archive(space)
        self._refused: list[IntArray] = []
        self._choices = np.argwhere(space.allowed)
        """[choice, 3]: decision and position of the pair, one row for each variable of the program."""
        self._one_each = (self._choices[:, 0] == np.arange(len(space.names))[:, None]).astype(np.float64)
        """[decision, choice]"""
        self._load = space.cost[:, *self._choices.T] / space.budget[:, None]
        """[constraint, choice], in parts of the budget."""
        self._loss = self._scaled_prior()
        self._bound, self._excess = self._lagrangian()
        self._gap = _GAP
        self._floor = 0.0

    def propose(self) -> IntArray:
        """The policy of least expected loss that is not known yet."""
        bits = self._solve()
        # The solver lets a sum exceed its bound by 1e-6. What does is cut off too: a margin could cost the optimum.
        while bits is not None and not self._space.fits(bits):
            self._refused.append(bits)
            bits = self._solve()
        if bits is None:
            bits = self._archive.best if len(self._archive) else greedy_policy(self._space)
        self._archive.add_pending(bits)
        return bits

    def _solve(self) -> IntArray | None:
        """The best solution but for those cut off; None if there is no further one.

        Within a core of choices (Pisinger 1995): a policy with another choice loses more than bound + gap, so what the
        core holds up to there is the optimum of all. Where it holds nothing, the core grows.
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
        """The choices taken, one for each decision; empty if there is no solution."""
        decisions = len(self._space.names)
        known = [self._taken(bits)[core] for bits in [*self._archive.policies, *self._refused]]
        cuts = [taken for taken in known if taken.sum() == decisions]
        constraints = [
            LinearConstraint(csr_array(self._one_each[:, core]), 1, 1),
            LinearConstraint(self._load[:, core], ub=1),
            # No solution is better than the one before: known to us, but to the solver half of its work.
            LinearConstraint(self._loss[None, core], lb=self._floor - _SLACK),
            *([LinearConstraint(csr_array(np.stack(cuts)), ub=decisions - 1)] if cuts else []),
        ]
        result = milp(
            self._loss[core],
            constraints=constraints,
            integrality=np.ones(len(core)),
            bounds=Bounds(0, 1),
            # Presolving gains nothing on a core, and HiGHS 1.12 may print a line while it undoes it.
            options={"mip_rel_gap": 0, "presolve": False},
        )
        return core[:0] if result.x is None else core[result.x > 0.5]

    def _scaled_prior(self) -> FloatArray:
        """Expected losses [choice], 0 for every decision's best pair, in units that suit the solver's tolerance."""
        allowed, prior = self._space.allowed, self._space.nominal_prior
        least = np.where(allowed, prior, np.inf).min(axis=(1, 2))
        most = np.where(allowed, prior, -np.inf).max(axis=(1, 2))
        span = (most - least).sum() or 1.0
        return np.asarray((prior[tuple(self._choices.T)] - least[self._choices[:, 0]]) * (_RANGE / span))

    def _lagrangian(self) -> tuple[float, FloatArray]:
        """A lower bound of every policy's loss, and by how much each choice [choice] raises it at least.

        Any prices of the budgets give one (weak duality); those of the relaxed program give the highest.
        """
        ones, limits = np.ones(len(self._space.names)), np.ones(len(self._space.budget))
        relaxed = linprog(self._loss, A_ub=self._load, b_ub=limits, A_eq=self._one_each, b_eq=ones, bounds=(0, None))
        prices = np.maximum(-relaxed.ineqlin.marginals, 0) if relaxed.status == 0 else 0 * limits
        priced = self._loss + prices @ self._load
        least = np.where(self._one_each > 0, priced, np.inf).min(axis=1)
        return float(least.sum() - prices.sum()), priced - least[self._choices[:, 0]]

    def _taken(self, bits: IntArray) -> FloatArray:
        """1 for the choices [choice] that make up a policy, else 0."""
        return np.asarray((bits[self._choices[:, 0]] == self._choices[:, 1:] + 1).all(axis=1), dtype=np.float64)

    def tell(self, bits: IntArray, score: float) -> None:
        """Note what became of a policy."""
        self._archive.record(bits, score)

    def state_dict(self) -> dict[str, Any]:
        """The known policies, those that the solver's tolerance let through, the core's width and the last loss."""
        refused = np.array(self._refused, dtype=np.int64).reshape(-1, len(self._space.names), 2)
        return {
            "archive": self._archive.state_dict(),
            "refused": torch.from_numpy(refused),
            "gap": self._gap,
            "floor": self._floor,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on exactly where `state_dict` was taken."""
        self._archive.load_state_dict(state["archive"])
        self._refused = list(state["refused"].numpy().copy())
        self._gap = state["gap"]
        self._floor = state["floor"]
