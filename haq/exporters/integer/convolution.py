"""Accumulators of convolutions and matrix products, exact in floats of 32 or 64 bits."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from haq.exporters.integer.arithmetic import Wide
from haq.exporters.integer.network import Product

_EXACT_IN_FLOAT32 = 2**24
"""Integers up to this magnitude are exact in float32."""


def accumulate(product: Product, values: Wide) -> Wide:
    """Compute the sums of products of a layer, without its bias.

    Every pixel of the kernel is a matrix product, or for depthwise convolutions a product of entries, over all pixels
    of the images.

    Args:
        product: Convolution or matrix product.
        values: Input codes less their zero point, [n, ...].

    Returns:
        Sums, [n, ...].
    """
    weights = product.weights.astype(np.int64)
    per_sum = weights[0].size
    bound = per_sum * int(np.abs(weights).max(initial=0)) * int(np.abs(values).max(initial=0))
    kind = np.float32 if bound < _EXACT_IN_FLOAT32 else np.float64
    if weights.ndim == 2:
        sums = values.astype(kind) @ weights.T.astype(kind)
    else:
        sums = _convolve(product, values.astype(kind), weights.astype(kind))
    return np.asarray(sums, np.int64)


def _convolve(product: Product, values: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    top, left, bottom, right = product.padding
    images = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)))
    count, channels, height, width = images.shape
    c_out, per_group, rows, columns = weights.shape
    groups = channels // per_group
    dilation, stride = product.dilation, product.stride
    out_height = (height - dilation[0] * (rows - 1) - 1) // stride[0] + 1
    out_width = (width - dilation[1] * (columns - 1) - 1) // stride[1] + 1
    sums = np.zeros((count, groups, c_out // groups, out_height * out_width), values.dtype)
    for row in range(rows):
        for column in range(columns):
            first_row, first_column = row * dilation[0], column * dilation[1]
            pixels = images[
                :,
                :,
                first_row : first_row + (out_height - 1) * stride[0] + 1 : stride[0],
                first_column : first_column + (out_width - 1) * stride[1] + 1 : stride[1],
            ].reshape(count, groups, per_group, -1)
            factors = weights[:, :, row, column].reshape(groups, c_out // groups, per_group)
            sums += pixels * factors if per_group == 1 else factors @ pixels
    return sums.reshape(count, c_out, out_height, out_width)
