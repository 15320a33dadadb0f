"""k-means codebooks: each weight becomes the number of one of 2^bits centroids that the layer shares.

This is the quantizer of Deep Compression (Han et al. 2016), which HAQ's size objective uses. In one dimension clusters
are intervals of the sorted weights, so that prefix sums give every centroid at once and a round costs 2^bits searches.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from haq.quantization.range import ALL_BITS, IntegerRange

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

CENTROID_BYTES = 4  # float32: what is evaluated is what is stored, at any magnitude of the weights
_MAX_ROUNDS = 1000
_MAX_RESTARTS = 20
_TOLERANCE = 1e-5  # of the weights' deviation: the largest move of a centroid that still counts as one


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Codebook:
    """Codes (uint8, shape of the weight) into ascending centroids (float32 [at most 2^bits])."""

    codes: Tensor
    centroids: Tensor
    bits: int

    def dequantize(self) -> Tensor:
        """The values (float32, shape of the weight)."""
        return self.centroids[self.codes.to(torch.int64)]


def codebook_bytes(bits: int) -> int:
    """Bytes that the centroids of one layer add to the model's size.

    >>> codebook_bytes(8)
    1024
    """
    return CENTROID_BYTES << bits


def kmeans_codebook(weight: Tensor, bits: int) -> Codebook:
    """The codebook of one bit width; for several, `kmeans_codebooks` sorts the weights only once.

    >>> book = kmeans_codebook(torch.tensor([0.0, 0.1, 0.9, 1.0, 1.1]), 1)
    >>> book.codes.tolist(), [round(c, 2) for c in book.centroids.tolist()]
    ([0, 0, 1, 1, 1], [0.05, 1.0])
    """
    return kmeans_codebooks(weight, bits=(bits,))[bits]


def kmeans_codebooks(weight: Tensor, *, bits: Iterable[int] = ALL_BITS) -> dict[int, Codebook]:
    """Codebooks of every bit width; the same weights always give the same ones.

    A layer of no more than 2^bits different weights gets exactly these as centroids.

    Raises ValueError for weights that are empty or not finite and for bits outside 1..8.
    """
    widths = [IntegerRange(width, signed=False).bits for width in bits]
    values = weight.detach().to("cpu", torch.float64).flatten()
    if not values.numel() or not values.isfinite().all():
        raise ValueError(f"weights must be finite and at least one, got shape {list(weight.shape)} or NaN or infinity")
    weights = _sorted(values.numpy())
    return {width: _codebook(weight, values, _centroids(weights, 1 << width), width) for width in widths}


@dataclass(frozen=True, slots=True, eq=False)
class _Sorted:
    """Weights in ascending order, and their prefix sums [n + 1]."""

    values: Floats
    different: Floats
    sums: Floats


def _sorted(values: Floats) -> _Sorted:
    ordered = np.sort(values)
    different = ordered[np.append(True, np.diff(ordered) > 0)]
    return _Sorted(ordered, different, np.append(0, np.cumsum(ordered)))


def _codebook(weight: Tensor, values: Tensor, centroids: Floats, bits: int) -> Codebook:
    boundaries = torch.from_numpy((centroids[1:] + centroids[:-1]) / 2)
    codes = torch.bucketize(values, boundaries).to(torch.uint8).reshape(weight.shape)
    stored = torch.from_numpy(centroids).to(torch.float32)
    return Codebook(codes=codes.to(weight.device), centroids=stored.to(weight.device), bits=bits)


def _centroids(weights: _Sorted, clusters: int) -> Floats:
    """Lloyd's algorithm; centroids that end without weights start again where the squared error is largest."""
    if len(weights.different) <= clusters:
        return weights.different
    centroids = _lloyd(weights, _start(weights.different, clusters))
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
    """Where each cluster's weights begin, and the last one's end [clusters + 1]: midpoints part the clusters."""
    inner = np.searchsorted(weights.values, (centroids[1:] + centroids[:-1]) / 2, side="right")
    return np.concatenate(([0], inner, [len(weights.values)]))


def _split_worst(weights: _Sorted, ends: Places, count: int) -> Floats:
    """A weight of the upper half of each of the clusters with the largest squared error, judged by size and spread."""
    last = len(weights.values) - 1
    sizes = np.diff(ends)
    spread = weights.values[ends[1:] - 1] - weights.values[np.minimum(ends[:-1], last)]
    worst = np.argsort(sizes * spread**2, kind="stable")[-count:]
    return np.asarray(weights.values[np.minimum(ends[worst] + 3 * sizes[worst] // 4, last)])


def _start(different: Floats, clusters: int) -> Floats:
    """Centroids as dense as the cube root of the weights' density: the optimum of many levels (Panter and Dite 1951).

    Equal weights count once, so that pruned ones do not draw all centroids to zero; bins after Rice's rule.
    """
    counts, edges = np.histogram(different, bins=round(2 * np.cbrt(len(different))))
    cumulative = np.append(0, np.cumsum(np.cbrt(counts)))
    places = (np.arange(clusters) + 0.5) / clusters
    return np.asarray(np.interp(places * cumulative[-1], cumulative, edges))
