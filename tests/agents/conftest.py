"""Fixtures: search spaces with the real projection onto the budget."""

from collections.abc import Callable

import numpy as np
import pytest

from agents import SearchSpace
from envs.budget_rules import project
from envs.choices import Choices

BITS = np.arange(1, 9)


def build_space(
    sizes: tuple[float, ...] = (3.0, 1.0, 2.0, 4.0),
    *,
    widths: tuple[int, ...] = (2, 3, 4, 5),
    ratios: tuple[float, ...] = (0.5,),
    pinned: bool = False,
    prior: np.ndarray | None = None,
) -> SearchSpace:
    """Decisions of given sizes; costs are size * w_bits * a_bits, then size * w_bits, then a_bits.

    `ratios`: one budget each, in parts of the cost at the most bits. `pinned`: the last decision always has 8 bits.
    """
    size = np.array(sizes)[:, None, None]
    w, a = np.broadcast_arrays(BITS[:, None], BITS[None, :])
    cost = np.stack([size * w * a, size * w * np.ones_like(a), np.ones_like(size) * a])[: len(ratios)].astype(float)
    allowed = np.broadcast_to(np.isin(w, widths) & np.isin(a, widths), cost.shape[1:]).copy()
    if pinned:
        allowed[-1] = (w == 8) & (a == 8)
    budget = np.where(allowed, cost, 0).max(axis=(2, 3)).sum(axis=1) * np.array(ratios)
    names = tuple(f"layer{index}" for index in range(len(sizes)))
    choice = Choices(names, tuple(range(len(sizes))), allowed, cost, budget, names[: len(ratios)])
    return SearchSpace(constraints=choice, project=lambda bits: project(choice, bits), prior=prior)


@pytest.fixture(scope="session")
def make_space() -> Callable[..., SearchSpace]:
    return build_space
