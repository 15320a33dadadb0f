"""Intervals by hand, and that they cover."""

import numpy as np
import pytest

from haq.studies.comparison.intervals import Interval, paired_interval


def test_interval_of_three_differences_by_hand() -> None:
    interval = paired_interval([0.01, 0.02, 0.03])
    # 4.303 is Student's 97.5 % quantile at two degrees of freedom; the deviation is 0.01.
    assert interval.high - interval.mean == pytest.approx(4.303 * 0.01 / 3**0.5, rel=1e-3)


def test_more_comparisons_widen_the_interval() -> None:
    differences = [0.0, 0.01, 0.02, -0.01]
    one, seven = (paired_interval(differences, comparisons=count) for count in (1, 7))
    assert seven.low < one.low < one.high < seven.high
    assert one.mean == seven.mean


def test_interval_of_equal_differences_has_width_zero() -> None:
    assert paired_interval([0.5, 0.5, 0.5]) == Interval(0.5, 0.5, 0.5, 3)


def test_resolution_bounds_the_width_from_below() -> None:
    interval = paired_interval([0.5, 0.5, 0.5], resolution=0.06)
    # 4.303 is Student's quantile; two numbers rounded to 0.06 have a deviation of 0.06 / sqrt(6), and so has the mean
    # of three pairs that were all rounded alike.
    assert interval.high - 0.5 == pytest.approx(4.303 * 0.06 / 6**0.5, rel=1e-3)


def test_a_repeated_difference_of_one_image_is_not_ahead() -> None:
    image = 1 / 540
    assert paired_interval([image] * 10, comparisons=7, resolution=image).verdict == "not behind"


def test_interval_covers_the_mean_with_its_confidence() -> None:
    draws = np.random.default_rng(0).normal(1.0, 2.0, (2000, 10))
    intervals = [paired_interval(row.tolist(), confidence=0.9) for row in draws]
    covered = np.mean([each.low <= 1.0 <= each.high for each in intervals])
    assert 0.88 < covered < 0.92


def test_single_difference_is_refused() -> None:
    with pytest.raises(ValueError, match="at least two"):
        paired_interval([0.1])
