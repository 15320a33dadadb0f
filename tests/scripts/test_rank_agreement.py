"""Rank correlations and expected choices, checked against scipy, simulation and enumeration."""

from collections.abc import Callable
from itertools import combinations
from types import ModuleType

import numpy as np
import pytest
from scipy.stats import spearmanr


@pytest.fixture(scope="module")
def script(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("experiments/rank_agreement")


def test_rank_correlations_equal_scipy_with_ties(script: ModuleType) -> None:
    rng = np.random.default_rng(1)
    score, truth = rng.integers(0, 5, (20, 9)).astype(float), rng.normal(size=(20, 9))
    expected = [spearmanr(ours, theirs).statistic for ours, theirs in zip(score, truth, strict=True)]
    assert np.allclose(script.rank_correlations(score, truth), expected)
    assert script.rank_correlations(np.ones((1, 4)), np.arange(4.0)[None]).tolist() == [0.0]


def test_intervals_have_nominal_coverage(script: ModuleType) -> None:
    rng, strength, covered = np.random.default_rng(2), 0.7, 0
    true = 6 / np.pi * np.arcsin(strength / 2)  # Spearman's of two normal variables
    for _ in range(100):
        truth, noise = rng.normal(size=(2, 40))
        _, low, high = script.interval(truth, strength * truth + np.sqrt(1 - strength**2) * noise)
        covered += low <= true <= high
    assert 86 <= covered <= 100


def test_interval_of_difference_equals_difference_of_correlations(script: ModuleType) -> None:
    truth, good, bad = np.random.default_rng(3).normal(size=(3, 30))
    good = truth + 0.1 * good
    difference, low, high = script.interval(truth, good, bad)
    assert difference == pytest.approx(spearmanr(good, truth).statistic - spearmanr(bad, truth).statistic)
    assert 0 < low < difference < high
    assert script.interval(truth, good, good) == (0.0, 0.0, 0.0)


def test_reliability_equals_correlation_of_two_simulated_means(script: ModuleType) -> None:
    rng = np.random.default_rng(4)
    true = rng.normal(size=(5000, 1))
    first, second = (true + 1.5 * rng.normal(size=(5000, 3)) for _ in range(2))
    found = spearmanr(first.mean(axis=1), second.mean(axis=1)).statistic
    assert script.reliability(first) == pytest.approx(found, abs=0.03)


def test_expected_choice_equals_mean_over_all_draws(script: ModuleType) -> None:
    truth = np.array([0.3, 0.9, 0.1, 0.5, 0.7, 0.2])
    score = np.array([2.0, 1.0, 2.0, 0.0, 1.0, 3.0])
    for count in range(1, 7):
        chosen = []
        for drawn in map(list, combinations(range(6), count)):
            best = score[drawn].max()
            chosen.append(np.mean([truth[each] for each in drawn if score[each] == best]))
        assert script.expected_choice(score, truth, count) == pytest.approx(np.mean(chosen))
