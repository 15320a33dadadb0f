"""Exact integer reference of the kernels of onnxruntime that multiply codes.

A kernel adds products of codes minus their zero points, and an int32 bias, exactly. The accumulator is converted to
float32, multiplied by one float32 factor per channel, input scale * weight scale / output scale, and rounded to nearest
with halves to even. Then the zero point is added and the code is clamped to its type.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch.nn import functional

Array = NDArray[Any]
Accumulators = NDArray[np.int64]
_CONVOLUTIONS = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


@dataclass(frozen=True, slots=True, eq=False)
class _Factors:
    """Scales and zero point of an output; a float output has the scale 1 and no zero point."""

    input_scale: Array
    weight_scale: Array
    output_scale: Array | None = None
    zero_point: Array | None = None

    def output(self, sums: Accumulators, channel_axis: int) -> Array:
        """Return the output of a kernel for its accumulators."""
        factor = np.float32(self.input_scale) * self.weight_scale.astype(np.float32)
        if self.output_scale is not None:
            factor = factor / np.float32(self.output_scale)
        values: Array = sums.astype(np.float32) * _aligned(np.atleast_1d(factor), sums.ndim, channel_axis)
        if self.zero_point is None:
            return values
        bounds = np.iinfo(self.zero_point.dtype)
        codes: Array = np.clip(np.rint(values) + self.zero_point, bounds.min, bounds.max).astype(self.zero_point.dtype)
        return codes


def kernel_output(node: onnx.NodeProto, inputs: Sequence[Array | None]) -> Array:
    """Compute the output of a kernel exactly.

    Args:
        node: Node of one of the operators in `REFERENCES`.
        inputs: Its inputs, in order; None for those that are left out.

    Returns:
        Its output: codes, or float32 for kernels without output scale.
    """
    attributes = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return REFERENCES[node.op_type]([*inputs, *[None] * 9], attributes)


def _convolution(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Array:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = inputs[:9]
    is_last = bool(attributes.get("channels_last", 0))
    codes = np.moveaxis(x, -1, 1) if is_last else x
    sums = _convolved(_centred(codes, x_zero), _centred(w, w_zero, axis=0), attributes)
    if bias is not None:
        sums = sums + _aligned(bias.astype(np.int64), sums.ndim, 1)
    found = _Factors(x_scale, w_scale, y_scale, y_zero).output(sums, 1)
    return np.moveaxis(found, 1, -1) if is_last else found


def _convolved(x: Accumulators, w: Accumulators, attributes: Mapping[str, Any]) -> Accumulators:
    """Convolve integers; sums of float64 products are exact at these sizes."""
    dims = w.ndim - 2
    pads = attributes.get("pads", [0] * 2 * dims)
    x = np.pad(x, [(0, 0), (0, 0), *zip(pads[:dims], pads[dims:], strict=True)])
    found = _CONVOLUTIONS[dims](
        torch.from_numpy(x.astype(np.float64)),
        torch.from_numpy(w.astype(np.float64)),
        stride=attributes.get("strides", [1] * dims),
        dilation=attributes.get("dilations", [1] * dims),
        groups=attributes.get("group", 1),
    )
    return found.numpy().astype(np.int64)


def _gemm(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Array:
    a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero = inputs[:9]
    is_transposed = bool(attributes.get("transB", 0))
    a, b = (a.T if attributes.get("transA", 0) else a), (b.T if is_transposed else b)
    sums = _centred(a, a_zero) @ _centred(b, b_zero, axis=1)
    if bias is not None:
        sums = sums + bias.astype(np.int64)
    return _Factors(a_scale * np.float32(attributes.get("alpha", 1.0)), b_scale, y_scale, y_zero).output(sums, 1)


def _matmul(inputs: Sequence[Any], _: Mapping[str, Any]) -> Array:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = inputs[:8]
    sums = _centred(a, a_zero) @ _centred(b, b_zero, axis=b.ndim - 1)
    return _Factors(a_scale, b_scale, y_scale, y_zero).output(sums, sums.ndim - 1)


def _matmul_to_float(inputs: Sequence[Any], _: Mapping[str, Any]) -> Array:
    a, b, a_scale, b_scale, a_zero, b_zero, bias = inputs[:7]
    sums = _centred(a, a_zero) @ _centred(b, b_zero, axis=b.ndim - 1)
    found = _Factors(a_scale, b_scale).output(sums, sums.ndim - 1)
    return found if bias is None else found + bias


def _centred(codes: Array, zero_point: Array | None, axis: int = 0) -> Accumulators:
    """Return codes minus their zero point, which may be one for each index of an axis."""
    wide: Accumulators = codes.astype(np.int64)
    if zero_point is None:
        return wide
    zero = zero_point.astype(np.int64)
    return wide - (zero if zero.size == 1 else _aligned(zero, codes.ndim, axis))


def _aligned(values: Array, ndim: int, axis: int) -> Array:
    return values.reshape([-1 if dim == axis else 1 for dim in range(ndim)])


REFERENCES: Mapping[str, Callable[[Sequence[Any], Mapping[str, Any]], Array]] = {
    "QLinearConv": _convolution,
    "QGemm": _gemm,
    "QLinearMatMul": _matmul,
    "MatMulIntegerToFloat": _matmul_to_float,
}
"""References by operator."""
