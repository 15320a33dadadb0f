"""k-means codebooks: each weight is stored as the index of one of 2^bits centroids shared by the layer.

This is the quantizer of Deep Compression (Han et al. 2016), which HAQ's size objective uses. In one dimension clusters
are intervals of the sorted weights, so prefix sums give every centroid at once and an iteration costs 2^bits searches.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from haq.quantization.range import ALL_BITS, IntegerRange

Floats = NDArray[np.float64]
"""Array of numbers, float64."""
Places = NDArray[np.intp]
"""Array of indices."""

CENTROID_BYTES = 4  # float32, so that stored values are those that were evaluated, at any magnitude of the weights
_MAX_ROUNDS = 1000
_MAX_RESTARTS = 20
_TOLERANCE = 1e-5  # of the weights' standard deviation: iterations stop when no centroid moves by more


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Codebook:
    """Weights of a layer as indices into a table of centroids.

    Attributes:
        codes: Index of each weight's centroid, uint8, in the shape of the weight.
        centroids: Ascending values, float32 [at most 2^bits].
        bits: Bit width of the codes.
    """

    codes: Tensor
    centroids: Tensor
    bits: int

    def dequantize(self) -> Tensor:
        """Return the values of the weights, float32 in the shape of the weight."""
        return self.centroids[self.codes.to(torch.int64)]


def codebook_bytes(bits: int) -> int:
    """Return the bytes that the centroids of one layer add to the model's size.

    Args:
        bits: Bit width of the codes.

    Returns:
        Bytes of 2^bits centroids.

    Examples:
        >>> codebook_bytes(8)
        1024
    """
    return CENTROID_BYTES << bits


def kmeans_codebook(weight: Tensor, bits: int) -> Codebook:
    """Cluster weights at one bit width; `kmeans_codebooks` sorts the weights only once for several widths.

    Args:
        weight: Weights of any shape.
        bits: Bit width, 1 to 8.

    Returns:
        The codebook.

    Raises:
        ValueError: The weights are empty or not finite, or `bits` is outside 1..8.

    Examples:
        >>> book = kmeans_codebook(torch.tensor([0.0, 0.1, 0.9, 1.0, 1.1]), 1)
        >>> book.codes.tolist(), [round(c, 2) for c in book.centroids.tolist()]
        ([0, 0, 1, 1, 1], [0.05, 1.0])
    """
    return kmeans_codebooks(weight, bits=(bits,))[bits]


def kmeans_codebooks(weight: Tensor, *, bits: Iterable[int] = ALL_BITS) -> dict[int, Codebook]:
    """Cluster weights at several bit widths, deterministically.

    Args:
        weight: Weights of any shape.
        bits: Bit widths, each 1 to 8.

    Returns:
        The codebook by bit width. A layer with at most 2^bits distinct weights has exactly these as centroids.

    Raises:
        ValueError: The weights are empty or not finite, or a bit width is outside 1..8.
    """
    widths = [IntegerRange(width, signed=False).bits for width in bits]
    values = weight.detach().to("cpu", torch.float64).flatten()
    if not values.numel() or not values.isfinite().all():
        raise ValueError(f"weights must be finite and at least one, got shape {list(weight.shape)} or NaN or infinity")
    weights = _sorted(values.numpy())
    return {width: _codebook(weight, values, _centroids(weights, 1 << width), width) for width in widths}


@dataclass(frozen=True, slots=True, eq=False)
class _Sorted:
    """Weights in ascending order.

    Attributes:
        values: All weights, [n].
        distinct: Distinct weights.
        sums: Prefix sums of `values`, [n + 1].
    """

    values: Floats
    distinct: Floats
    sums: Floats


def _sorted(values: Floats) -> _Sorted:
    ordered = np.sort(values)
    distinct = ordered[np.append(True, np.diff(ordered) > 0)]
    return _Sorted(ordered, distinct, np.append(0, np.cumsum(ordered)))


def _codebook(weight: Tensor, values: Tensor, centroids: Floats, bits: int) -> Codebook:
    boundaries = torch.from_numpy((centroids[1:] + centroids[:-1]) / 2)
    codes = torch.bucketize(values, boundaries).to(torch.uint8).reshape(weight.shape)
    stored = torch.from_numpy(centroids).to(torch.float32)
    return Codebook(codes=codes.to(weight.device), centroids=stored.to(weight.device), bits=bits)


def _centroids(weights: _Sorted, clusters: int) -> Floats:
    """Run Lloyd's algorithm, restarting centroids without weights in the clusters of largest squared error."""
    if len(weights.distinct) <= clusters:
        return weights.distinct
    centroids = _lloyd(weights, _initial_centroids(weights.distinct, clusters))
    for _ in range(_MAX_RESTARTS):
        ends = _ends(weights, centroids)
        occupied = np.diff(ends) > 0
        if occupied.all():
            break
        added = _split_worst(weights, ends, clusters - int(occupied.sum()))
        centroids = _lloyd(weights, np.sort(np.append(centroids[occupied], added)))
    return centroids


def _lloyd(weights: _Sorted, centroids: Floats) -> Floats:
    least_move = _TOLERANCE * weights.values.std()
    for _ in range(_MAX_ROUNDS):
        ends = _ends(weights, centroids)
        sizes = np.diff(ends)
        moved = np.divide(np.diff(weights.sums[ends]), sizes, out=centroids.copy(), where=sizes > 0)
        if np.abs(moved - centroids).max() <= least_move:
            return moved
        centroids = moved
    return centroids


def _ends(weights: _Sorted, centroids: Floats) -> Places:
    """Return where each cluster's weights begin, and the end, [clusters + 1]; midpoints bound the clusters."""
    inner = np.searchsorted(weights.values, (centroids[1:] + centroids[:-1]) / 2, side="right")
    return np.concatenate(([0], inner, [len(weights.values)]))


def _split_worst(weights: _Sorted, ends: Places, count: int) -> Floats:
    """Return a weight from the upper half of each of the `count` worst clusters: by size times squared spread."""
    last = len(weights.values) - 1
    sizes = np.diff(ends)
    spread = weights.values[ends[1:] - 1] - weights.values[np.minimum(ends[:-1], last)]
    worst = np.argsort(sizes * spread**2, kind="stable")[-count:]
    return np.asarray(weights.values[np.minimum(ends[worst] + 3 * sizes[worst] // 4, last)])


def _initial_centroids(distinct: Floats, clusters: int) -> Floats:
    """Return initial centroids, as dense as the cube root of the density of the weights.

    That is optimal for many levels (Panter and Dite 1951). Equal weights count once, so that pruned weights do not
    attract all centroids to zero; the number of bins follows Rice's rule.
    """
    counts, edges = np.histogram(distinct, bins=round(2 * np.cbrt(len(distinct))))
    cumulative = np.append(0, np.cumsum(np.cbrt(counts)))
    places = (np.arange(clusters) + 0.5) / clusters
    return np.asarray(np.interp(places * cumulative[-1], cumulative, edges))
