"""How sure a drop of accuracy is, from paired images."""

from math import comb, sqrt

import pytest
import torch
from scipy.stats import norm

from haq.searching.confidence import Pairs, confidence_of_drop, images_needed
from haq.searching.paired_answers import PairedAnswers, paired


def test_without_a_limit_it_is_the_test_of_mcnemar() -> None:
    # (lost - won + 1) / sqrt(lost + won), McNemar 1947 with the continuity correction.
    expected = norm.sf((3 - 12 + 1) / sqrt(15))
    assert confidence_of_drop(Pairs(3, 12, 200), 0.0) == pytest.approx(expected)


def test_with_no_image_between_them_the_variance_is_that_of_the_limit() -> None:
    # Ten images less one, over the root of the variance of 1000 images at 1 %.
    assert confidence_of_drop(Pairs(0, 0, 1000), 0.01) == pytest.approx(norm.cdf(9 / sqrt(9.9)))
    assert confidence_of_drop(Pairs(0, 0, 1000), 0.0) == 0.0


def test_confidence_grows_with_images_wins_and_limit() -> None:
    base = confidence_of_drop(Pairs(4, 3, 400), 0.01)
    assert confidence_of_drop(Pairs(8, 6, 800), 0.01) > base
    assert confidence_of_drop(Pairs(4, 5, 400), 0.01) > base
    assert confidence_of_drop(Pairs(4, 3, 400), 0.02) > base
    assert confidence_of_drop(Pairs(6, 3, 400), 0.01) < base


@pytest.mark.parametrize("won_probability", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("limit", [0.01, 0.05])
def test_confidence_is_rarely_wrong(limit: float, won_probability: float) -> None:
    """Of all outcomes on 80 images at a drop of just the limit: how likely is a confidence of 95 % or more?"""
    images, lost_probability = 80, won_probability + limit
    wrong = 0.0
    for lost in range(31):
        for won in range(31):
            if confidence_of_drop(Pairs(lost, won, images), limit) >= 0.95:
                ways = comb(images, lost) * comb(images - lost, won)
                rest = (1 - lost_probability - won_probability) ** (images - lost - won)
                wrong += ways * lost_probability**lost * won_probability**won * rest
    assert wrong <= 0.05


class Fixed:
    """An engine whose float network is right on even items, and whose policy is right on every third."""

    name, images_per_policy = "fixed", 0

    def runner(self, bits: object) -> object:
        every = 2 if bits is None else 3
        return lambda inputs: torch.nn.functional.one_hot((inputs % every == 0).long(), 2).float()


class Items:
    def correct(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs.argmax(dim=1) == targets

    def chance_warning(self, score: float, *, items: int) -> None: ...

    def size(self, _: str) -> int:
        return 12

    def batches(self, _: str, *, batch_size: int) -> object:
        inputs = torch.arange(12)
        return zip(inputs.split(batch_size), torch.ones(12, dtype=torch.int64).split(batch_size), strict=True)


@pytest.mark.parametrize("batch_size", [5, 12])
def test_pairs_are_counted_over_all_batches(batch_size: int) -> None:
    # Right in float: 0 2 4 6 8 10; with the policy: 0 3 6 9.
    found = paired(Fixed(), Items(), "report", ((4,), (4,)), batch_size=batch_size)  # type: ignore[arg-type]
    assert found == Pairs(lost=4, won=2, images=12)


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95, 0.999])
@pytest.mark.parametrize("limit", [0.001, 0.01, 0.2])
def test_images_needed_is_the_least_number(limit: float, confidence: float) -> None:
    needed = images_needed(limit, confidence)
    assert confidence_of_drop(Pairs(0, 0, needed + 1), limit) >= confidence
    assert confidence_of_drop(Pairs(0, 0, needed - 1), limit) < confidence


def test_each_policy_runs_once_and_recalled_ones_never() -> None:
    engine = Fixed()
    answers = PairedAnswers(engine, Items(), "report", batch_size=5)  # type: ignore[arg-type]
    answers.recall(((8,), (8,)), Pairs(1, 0, 12))
    assert answers.pairs(((8,), (8,))) == Pairs(1, 0, 12)
    assert answers.pairs(((4,), (4,))) is answers.pairs(((4,), (4,)))
    assert answers.forward_images == 3 * 12  # float, and two policies
