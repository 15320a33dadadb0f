"""The winner among finalists, by all images that are not of the report."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from envs.choices import Choices
from envs.reward import accuracy_reward
from haq.evaluation.protocols import Evaluation
from haq.runs.episode import Episode
from haq.runs.summary import Finalist
from haq.searching.confidence import Pairs, confidence_of_drop
from haq.searching.goals import MaximumReward, MinimumCost
from haq.searching.selection import select

FLOAT = 0.95
Known = Mapping[int, tuple[float, float]]
"""Accuracy and noise by weight bits."""


class Stub:
    """An objective with given evaluations."""

    def __init__(self, images: int, known: Known, accuracy_fp32: float = FLOAT) -> None:
        self.images, self._known = images, known
        self.evaluator = SimpleNamespace(accuracy_fp32=accuracy_fp32, evaluations=0, forward_images=0)
        self.lost: Mapping[int, int] = {}

    @property
    def forward_images(self) -> int:
        return int(self.evaluator.forward_images)

    def pairs(self, bits: np.ndarray) -> Pairs:
        return Pairs(self.lost[int(bits[0, 0])], 0, self.images)

    def evaluate(self, bits: np.ndarray) -> Evaluation:
        self.evaluator.evaluations += 1
        self.evaluator.forward_images += self.images
        accuracy, noise = self._known[int(bits[0, 0])]
        return Evaluation(accuracy, divergence=0.0, noise=noise)

    def reward(self, evaluation: Evaluation) -> float:
        return accuracy_reward(self.evaluator.accuracy_fp32)(evaluation.accuracy)


def choice(limit: float = 64.0) -> Any:
    pairs = np.multiply.outer(np.arange(1, 9.0), np.arange(1, 9.0))
    return SimpleNamespace(
        choice=Choices(("a",), (0,), np.ones((1, 8, 8), bool), pairs[None, None], np.array([limit]), ("bops",))
    )


def episodes(known: Known) -> list[Episode]:
    return [
        Episode(
            episode=episode,
            w_bits=(bits,),
            a_bits=(8,),
            cost=8.0 * bits,
            accuracy=accuracy,
            divergence=0.0,
            noise=noise,
            reward=accuracy_reward(FLOAT)(accuracy),
            score=accuracy_reward(FLOAT)(accuracy),
            actor_loss=None,
            critic_loss=None,
        )
        for episode, (bits, (accuracy, noise)) in enumerate(known.items())
    ]


SEARCH: Known = {5: (0.90, 0.1), 6: (0.89, 0.1), 7: (0.80, 0.1)}


def winner(selection: Known | None) -> int:
    search: Any = Stub(100, SEARCH)
    objective: Any = None if selection is None else Stub(40, selection)
    found = select(MaximumReward(choice()), episodes(SEARCH), search, objective)
    (bits,) = found.winner.w_bits
    return int(bits)


def test_without_a_selection_split_the_search_decides() -> None:
    assert winner(None) == 5
    search: Any = Stub(100, SEARCH)
    found = select(MaximumReward(choice()), episodes(SEARCH), search, None)
    assert (found.accuracy, found.images, found.evaluations, found.finalists) == (None, 0, 0, ())


def test_every_image_counts_the_same() -> None:
    # Right on all images: 90 + 30 = 120, 89 + 32 = 121, 80 + 38 = 118.
    assert winner({5: (30 / 40, 0.1), 6: (32 / 40, 0.1), 7: (38 / 40, 0.1)}) == 6
    assert winner({5: (31 / 40, 0.1), 6: (30 / 40, 0.1), 7: (40 / 40, 0.1)}) == 5


def test_of_equally_many_right_the_closer_outputs_win_then_the_cheaper() -> None:
    assert winner({5: (30 / 40, 0.3), 6: (31 / 40, 0.1), 7: (0.0, 0.1)}) == 6
    assert winner({5: (30 / 40, 0.1), 6: (31 / 40, 0.2), 7: (0.0, 0.1)}) == 5
    assert winner({5: (30 / 40, 0.1), 6: (31 / 40, 0.1), 7: (0.0, 0.1)}) == 5


def test_selection_counts_its_evaluations() -> None:
    search: Any = Stub(100, SEARCH)
    selection: Any = Stub(40, {5: (0.5, 0.1), 6: (0.6, 0.1), 7: (0.7, 0.1)}, accuracy_fp32=0.8)
    found = select(MaximumReward(choice()), episodes(SEARCH), search, selection)
    assert (found.evaluations, found.forward_images, found.images) == (3, 120, 40)
    assert (found.accuracy, found.accuracy_fp32) == (0.6, 0.8)
    assert found.finalists[0] == Finalist(episode=0, cost=40.0, search_accuracy=0.90, selection_accuracy=0.5)
    assert [each.episode for each in found.finalists] == [0, 1, 2]
    assert found.winner == episodes(SEARCH)[1]


@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        # On all 140 images the float network is right on 133, the policies on 120 and 129.
        (0.10, 5),
        (0.06, 6),
        # On the images of the search both keep to it, on all images neither: the nearer one.
        (0.051, 6),
    ],
)
def test_a_min_cost_search_takes_the_cheapest_that_keeps_to_the_drop_on_all_images(drop: float, expected: int) -> None:
    known: Known = {5: (0.90, 0.1), 6: (0.91, 0.1)}
    search: Any = Stub(100, known)
    objective: Any = Stub(40, {5: (30 / 40, 0.1), 6: ((38 if drop > 0.055 else 34) / 40, 0.1)})
    found = select(MinimumCost(choice(), drop, FLOAT), episodes(known), search, objective)
    assert found.winner.w_bits == (expected,)


def test_the_winner_reaches_the_confidence_on_all_images_together() -> None:
    known = dict.fromkeys(range(1, 9), (FLOAT, 0.1))
    tried = [each.model_copy(update={"lost": 8 - each.w_bits[0], "won": 0}) for each in episodes(known)]
    search, selection = Stub(1000, known), Stub(250, known)
    selection.lost = {bits: 8 if bits < 8 else 0 for bits in range(1, 9)}
    goal = MinimumCost(choice(), 0.01, accuracy_fp32=FLOAT, images=1000, confidence=0.9)
    shown = [each for each in tried if confidence_of_drop(Pairs(each.lost or 0, 0, 1000), 0.01) >= 0.9]
    assert 1 < len(shown) < 8
    found = select(goal, tried, search, selection)  # type: ignore[arg-type]
    assert found.winner.w_bits == (8,)
    assert found.confidence == confidence_of_drop(Pairs(0, 0, 1250), 0.01)


def test_won_and_lost_images_of_both_splits_are_added() -> None:
    known: Known = {4: (FLOAT, 0.1)}
    (tried,) = (each.model_copy(update={"lost": 2, "won": 3}) for each in episodes(known))
    search, selection = Stub(1000, known), Stub(250, known)
    selection.pairs = lambda _: Pairs(1, 5, 250)  # type: ignore[method-assign]
    goal = MinimumCost(choice(), 0.01, accuracy_fp32=FLOAT, images=1000, confidence=0.5)
    found = select(goal, [tried], search, selection)  # type: ignore[arg-type]
    assert found.confidence == confidence_of_drop(Pairs(2 + 1, 3 + 5, 1250), 0.01)


def test_confidence_without_a_selection_split_is_that_of_the_search() -> None:
    known: Known = {4: (FLOAT, 0.1)}
    (tried,) = (each.model_copy(update={"lost": 2, "won": 3}) for each in episodes(known))
    goal = MinimumCost(choice(), 0.01, accuracy_fp32=FLOAT, images=1000, confidence=0.5)
    search: Any = Stub(1000, known)
    assert select(goal, [tried], search, None).confidence == confidence_of_drop(Pairs(2, 3, 1000), 0.01)
    assert select(MinimumCost(choice(), 0.01, FLOAT), [tried], search, None).confidence is None
