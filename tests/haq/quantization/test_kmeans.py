"""k-means codebooks: by hand, against scikit-learn, and with empty clusters."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from torch import Tensor

from haq.quantization.kmeans import codebook_bytes, kmeans_codebook, kmeans_codebooks

LISTS = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=60)


def gaussian(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def error(weight: Tensor, values: Tensor) -> float:
    return float((values.double() - weight.double()).square().sum())


def test_centroids_by_hand() -> None:
    book = kmeans_codebook(torch.tensor([[1.0, 9.0, 2.0], [10.0, 3.0, 11.0]]), 1)
    assert book.codes.tolist() == [[0, 1, 0], [1, 0, 1]]
    assert book.centroids.tolist() == [2, 10]
    assert book.dequantize().tolist() == [[2, 10, 2], [10, 2, 10]]
    assert book.codes.dtype == torch.uint8


@pytest.mark.parametrize("bits", [1, 2, 4, 6])
@pytest.mark.parametrize(("kind", "tolerance"), [("gaussian", 1.03), ("pruned", 1.15)])
def test_error_is_close_to_scikit_learn(bits: int, kind: str, tolerance: float) -> None:
    weight = gaussian(4000)
    if kind == "pruned":
        weight = torch.where(weight.abs() > 1, weight, 0.0)
    theirs = KMeans(n_clusters=1 << bits, n_init=3, random_state=0).fit(weight.double().reshape(-1, 1).numpy()).inertia_
    assert error(weight, kmeans_codebook(weight, bits).dequantize()) <= tolerance * theirs


@given(LISTS, st.integers(1, 8))
@settings(deadline=None)
def test_every_weight_has_its_nearest_centroid(values: list[float], bits: int) -> None:
    weight = torch.tensor(values)
    book = kmeans_codebook(weight, bits)
    assert 1 <= len(book.centroids) <= 2**bits
    assert book.centroids.isfinite().all()
    assert (book.centroids.diff() >= 0).all()
    nearest = (weight[:, None] - book.centroids).abs().amin(dim=1)
    assert torch.allclose((weight - book.dequantize()).abs(), nearest, atol=1e-4)


@given(LISTS, st.integers(1, 8))
@settings(deadline=None)
def test_few_distinct_weights_are_kept_exactly(values: list[float], bits: int) -> None:
    weight = torch.tensor(values[: 2**bits] * 3)
    assert torch.equal(kmeans_codebook(weight, bits).dequantize(), weight)


@pytest.mark.parametrize(
    "weight", [torch.cat([torch.zeros(500), torch.arange(20.0)]), torch.cat([gaussian(500), torch.tensor([1e6])])]
)
def test_errors_decrease_with_bits_despite_empty_clusters(weight: Tensor) -> None:
    errors = [error(weight, book.dequantize()) for book in kmeans_codebooks(weight, bits=range(1, 9)).values()]
    assert all(torch.isfinite(torch.tensor(errors)))
    assert errors == sorted(errors, reverse=True)


def test_error_is_less_than_of_linear_quantizer() -> None:
    weight = gaussian(20_000)
    steps = torch.linspace(float(weight.min()), float(weight.max()), 16)
    uniform = steps[(weight[:, None] - steps).abs().argmin(dim=1)]
    assert error(weight, kmeans_codebook(weight, 4).dequantize()) < 0.5 * error(weight, uniform)


def test_all_widths_equal_single_widths() -> None:
    weight = gaussian(10, 10, 3, 3)
    books = kmeans_codebooks(weight)
    assert list(books) == list(range(1, 9))
    assert books[5].codes.shape == weight.shape
    assert torch.equal(books[5].codes, kmeans_codebook(weight, 5).codes)


def test_codebook_bytes_counts_four_bytes_per_centroid() -> None:
    assert [codebook_bytes(bits) for bits in (1, 4, 8)] == [8, 64, 1024]


def test_invalid_weights_and_bits_raise() -> None:
    with pytest.raises(ValueError, match="finite and at least one"):
        kmeans_codebook(torch.tensor([1.0, float("inf")]), 4)
    with pytest.raises(ValueError, match="finite and at least one"):
        kmeans_codebook(torch.empty(0), 4)
    with pytest.raises(ValueError, match="from 1 to 8, got 0"):
        kmeans_codebook(torch.ones(3), 0)
