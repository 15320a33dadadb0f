"""scikit-learn's digits: 1,797 scanned digits of 8x8 pixels, included in the package (Alpaydin & Kaynak 1998)."""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from haq.tasks.splits import IntArray, Pool, balanced_order

SIDE = 16
"""Pixels; twice those of the scans, so that layers differ in size."""
CLASS_NAMES = tuple("0123456789")


def digits_pools() -> tuple[Pool, Pool]:
    """Split the digits into fixed halves of every class; the embedded network is trained on the first.

    Returns:
        Items of the train and of the val part.
    """
    images, labels = _scans()
    order = balanced_order(labels, np.random.default_rng(0))
    train, val = np.split(order, [len(order) // 2])
    return _pool(images, labels, train), _pool(images, labels, val)


def _pool(images: Tensor, labels: IntArray, places: IntArray) -> Pool:
    return Pool.of_classes([str(place) for place in places], labels[places], lambda index: images[int(places[index])])


@cache
def _scans() -> tuple[Tensor, IntArray]:
    """Return images [1797, 1, 16, 16] in [0, 1], and labels."""
    from sklearn.datasets import load_digits

    scans = load_digits()
    small = torch.as_tensor(scans.images / 16.0, dtype=torch.float32).unsqueeze(1)
    return interpolate(small, size=(SIDE, SIDE), mode="bilinear", align_corners=False), scans.target.astype(np.int64)
