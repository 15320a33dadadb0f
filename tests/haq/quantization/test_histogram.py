"""Histograms: exact counts, any order of batches, and errors for values that cannot be counted."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from haq.quantization.histogram import Histogram, HistogramBuilder, build_histogram

BATCHES = st.lists(st.lists(st.floats(-1e6, 1e6, width=32, allow_subnormal=False), max_size=20), min_size=1, max_size=4)


def _same(a: Histogram, b: Histogram) -> bool:
    arrays = ((a.edges, b.edges), (a.positive, b.positive), (a.negative, b.negative))
    plain = ((a.zeros, a.minimum, a.maximum), (b.zeros, b.minimum, b.maximum))
    return all(np.array_equal(x, y) for x, y in arrays) and np.array_equal(*plain, equal_nan=True)


@given(BATCHES)
def test_counts_signs_zeros_and_bounds_are_exact(batches: list[list[float]]) -> None:
    histogram = build_histogram(torch.tensor(batch) for batch in batches)
    values = np.concatenate([np.asarray(batch, np.float32) for batch in batches])
    assert histogram.count == values.size
    assert histogram.zeros == (values == 0).sum()
    assert histogram.positive.sum() == (values > 0).sum()
    assert histogram.negative.sum() == (values < 0).sum()
    if values.size:
        assert (histogram.minimum, histogram.maximum) == (values.min(), values.max())
    else:
        assert np.isnan(histogram.minimum)
    assert histogram.signed == bool((values < 0).any())


@given(BATCHES)
def test_histogram_does_not_depend_on_batching(batches: list[list[float]]) -> None:
    tensors = [torch.tensor(batch) for batch in batches]
    expected = build_histogram([torch.cat(tensors)])
    assert _same(build_histogram(tensors), expected)
    assert _same(build_histogram(tensors[::-1]), expected)


@given(st.floats(2.0**-100, 2.0**100, width=32))
def test_a_value_lies_between_the_edges_of_a_narrow_bin(value: float) -> None:
    low, high = build_histogram([torch.tensor([value])]).edges
    assert low <= value <= high <= low * 1.001


def test_peak_of_signed_and_unsigned_range() -> None:
    histogram = build_histogram([torch.tensor([-3.0, 2.0])])
    assert histogram.peak(signed=True) == 3
    assert histogram.peak(signed=False) == 2
    assert build_histogram([torch.tensor([-3.0])]).peak(signed=False) == 0


def test_outlier_does_not_widen_bins() -> None:
    histogram = build_histogram([torch.tensor([1.0, 1.01, 1e30])])
    assert np.count_nonzero(histogram.positive) == 3


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values_raise_and_are_not_counted(bad: float) -> None:
    builder = HistogramBuilder()
    builder.update(torch.ones(4))
    with pytest.raises(ValueError, match="1 of 3 values are NaN or infinite"):
        builder.update(torch.tensor([1.0, bad, 2.0]))
    assert builder.build().count == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_are_counted_as_float32(dtype: torch.dtype) -> None:
    assert build_histogram([torch.tensor([-0.5, 0.25], dtype=dtype)]).minimum == -0.5


def test_histogram_does_not_depend_on_memory_layout() -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert _same(build_histogram([x.to(memory_format=torch.channels_last)]), build_histogram([x]))
    assert _same(build_histogram([x.transpose(0, 3)]), build_histogram([x]))
