"""Kind and shape of a layer, from the tensors of one call."""

from typing import Any

from torch import Tensor

from haq.network.tracing.products import ProductSizes
from haq.network.tracing.weighted_calls import Call
from hardware_sim.layer import SPATIAL_KINDS, LayerKind, Size


def layer_kind(call: Call) -> LayerKind:
    """Return the kind of a layer: depthwise for convolutions with one input channel per group, else its operation's.

    Args:
        call: Call of the layer.

    Returns:
        The kind.
    """
    groups = call.arguments.get("groups", 1)
    is_depthwise = call.operation.kind == "conv" and groups > 1 and call.factor.shape[1] == 1
    return "depthwise" if is_depthwise else call.operation.kind


def layer_shape(call: Call, output: Tensor) -> dict[str, Any]:
    """Return channels, sizes and other numbers of a layer.

    Args:
        call: Call of the layer; for a recurrent layer its first step.
        output: Result of the call.

    Returns:
        Arguments of `Layer` by name.
    """
    kind, weight = call.operation.kind, call.factor
    if kind == "recurrent":
        size = (1, max(1, output.numel() // weight.shape[0]))
        return {"c_in": weight.shape[1], "c_out": weight.shape[0], "input_size": size, "output_size": size}
    if kind not in SPATIAL_KINDS:
        positions = max(1, output.numel() // weight.shape[1 if kind == "embedding" else 0])
        c_in, c_out = (weight.shape[0], weight.shape[1]) if kind == "embedding" else (weight.shape[1], weight.shape[0])
        return {"c_in": c_in, "c_out": c_out, "input_size": (positions, 1), "output_size": (positions, 1)}
    groups, dims = call.arguments.get("groups", 1), call.operation.spatial_dims
    c_in, c_out = weight.shape[1] * groups, weight.shape[0]
    if kind == "conv_transpose":
        c_in, c_out = weight.shape[0], weight.shape[1] * groups
    return {
        "c_in": c_in,
        "c_out": c_out,
        "groups": groups,
        "kernel": _size(weight.shape[2:], dims),
        "stride": _size(call.arguments.get("stride", 1), dims),
        "dilation": _size(call.arguments.get("dilation", 1), dims),
        "input_size": _stacked(call.input, dims),
        "output_size": _stacked(output, dims),
    }


def product_shape(sizes: ProductSizes) -> dict[str, Any]:
    """Return channels and sizes of a layer that multiplies two activations; each product is a group.

    Args:
        sizes: Sizes of the products.

    Returns:
        Arguments of `Layer` by name.
    """
    positions = (sizes.rows, 1)
    return {
        "c_in": sizes.groups * sizes.depth,
        "c_out": sizes.groups * sizes.columns,
        "groups": sizes.groups,
        "input_size": positions,
        "output_size": positions,
    }


def _stacked(maps: Tensor, dims: int) -> Size:
    """Return (height, width) of all maps of one item, such as the regions of a detector, stacked vertically."""
    height, width = _size(maps.shape[-dims:], dims)
    return height * max(1, maps.shape[0] if maps.ndim > dims + 1 else 1), width


def _size(value: Any, dims: int) -> Size:
    """Return (height, width) of a number or a sequence; one-dimensional sizes have height 1."""
    values = [int(value)] * dims if isinstance(value, int) else [int(item) for item in value]
    values = values * dims if len(values) == 1 else values
    return (1, values[0]) if dims == 1 else (values[0], values[1])
