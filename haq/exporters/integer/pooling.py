"""Pooling of codes, as TensorFlow Lite's reference kernels compute it for int8."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from haq.exporters.integer.arithmetic import Wide
from haq.exporters.integer.network import Codes, Pool

_LOWEST = -128


def largest(codes: Codes, pool: Pool) -> Codes:
    """Return the largest code of every window.

    Args:
        codes: Input codes, [n, c, h, w].
        pool: Windows.

    Returns:
        Output codes, [n, c, h, w].
    """
    found: Codes = _windows(codes, pool, _LOWEST).max(axis=(-2, -1))
    return found


def average(codes: Codes, pool: Pool) -> Wide:
    """Return the mean code of every window, over the pixels inside the image, rounded with halves away from zero.

    Args:
        codes: Input codes, [n, c, h, w].
        pool: Windows.

    Returns:
        Output codes, [n, c, h, w].
    """
    total = _windows(codes, pool, 0).sum(axis=(-2, -1), dtype=np.int64)
    count = _windows(np.ones((1, 1, *codes.shape[2:]), np.int8), pool, 0).sum(axis=(-2, -1), dtype=np.int64)
    rounded: Wide = np.sign(total) * ((np.abs(total) + count // 2) // count)
    return rounded


def _windows(codes: Codes, pool: Pool, filling: int) -> NDArray[np.int8]:
    """Return a view [n, c, h, w, kernel height, kernel width]."""
    top, left, bottom, right = pool.padding
    images = np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=filling)
    views = sliding_window_view(images, pool.kernel, axis=(2, 3))
    return views[:, :, :: pool.stride[0], :: pool.stride[1]]
