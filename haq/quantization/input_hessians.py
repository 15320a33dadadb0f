"""Hessians of the inputs of layers: the statistics that GPTQ rounding of weights needs."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from haq.errors import UserError
from haq.network.layers import Trace
from haq.network.tracing.weighted_calls import Call
from hardware_sim.layer import Layer

LARGEST_COLUMNS = 8192
"""Maximum number of weights per output: the Hessian of such a layer takes 256 MiB."""
POSITIONS = 8192
"""Maximum number of output positions of a layer that are sampled from each batch."""
_VALUES_AT_ONCE = 1 << 24
_FEW_TAPS = 9
_CHANNELS_AT_ONCE = 64
_GOLDEN = (5**0.5 - 1) / 2


def has_hessian(trace: Trace, layer: int) -> bool:
    """Return whether a layer multiplies rows of weights with inputs, alone uses these weights, and is not too large.

    Args:
        trace: Trace of the network.
        layer: Position of the layer.

    Returns:
        True if it does.
    """
    found, weights = trace.layers[layer], trace.sites[layer].weights
    uses = sum(site.weights == weights for site in trace.sites)
    return found.kind in ("conv", "depthwise", "linear") and uses == 1 and _columns(found) <= LARGEST_COLUMNS


class HessianBuilder:
    """Sums of x x^T over the inputs x that each row of weights is multiplied with.

    Only layers of which `has_hessian` is true count.

    Args:
        trace: Trace of the network.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._sums: dict[int, Tensor] = {}
        self._seen: dict[int, int] = {}

    def update(self, layer: int, call: Call) -> None:
        """Add the input of a call.

        Args:
            layer: Position of the layer.
            call: Its call, whose input is a part of the calibration inputs or its result.
        """
        if not has_hessian(self._trace, layer):
            return
        found = self._trace.layers[layer]
        for patches in _patches(call, found):
            self._sums[layer] = _moments(patches, found.groups) + self._sums.get(layer, 0)
            self._seen[layer] = self._seen.get(layer, 0) + len(patches)

    def build(self) -> dict[int, Tensor]:
        """Compute the means of x x^T.

        Columns are in the order of the weights. The last one is a constant 1, which a bias is multiplied with: it
        contains the mean of x.

        Returns:
            Hessians, float32 [groups, columns + 1, columns + 1], by layer.

        Raises:
            UserError: Activations are too large to be squared; the message names the layer.
        """
        for layer, total in self._sums.items():
            if not total.isfinite().all():
                name = self._trace.layers[layer].name
                raise UserError(f"inputs of layer {name!r} are too large to be squared in float32")
        return {layer: total / self._seen[layer] for layer, total in self._sums.items()}


def _moments(patches: Tensor, groups: int) -> Tensor:
    """Return the sum of x x^T over positions, [groups, columns + 1, columns + 1], for inputs x with a 1 appended.

    Patches are [positions, taps, c_in]; the columns of a group are its channels, and the taps of each.
    """
    positions, taps, channels = patches.shape
    columns = taps * channels // groups
    moments = patches.new_empty(groups, columns + 1, columns + 1)
    if channels == groups and taps <= _FEW_TAPS:
        products, sums = _products_of_pairs(patches), patches.sum(dim=0).mT
    else:
        x = patches.mT.reshape(positions, groups, columns).transpose(0, 1)
        products, sums = x.mT @ x, x.sum(dim=1)
    moments[:, :columns, :columns] = products
    moments[:, columns, :columns] = moments[:, :columns, columns] = sums
    moments[:, columns, columns] = positions
    return moments


def _products_of_pairs(patches: Tensor) -> Tensor:
    """Return the sums of products of all pairs of taps, [channels, taps, taps], faster than tiny matrix products.

    Some channels are copied together, so that their products are computed in the cache of a core. The last part has the
    rest as well, since sums over a few columns are added up in another order.
    """
    _, taps, channels = patches.shape
    found = patches.new_empty(taps, taps, channels)
    starts = list(range(_CHANNELS_AT_ONCE, channels - _CHANNELS_AT_ONCE + 1, _CHANNELS_AT_ONCE))
    for some, sums in zip(*(torch.tensor_split(each, starts, dim=2) for each in (patches, found)), strict=True):
        by_tap = some.transpose(0, 1).contiguous()
        for first in range(taps):
            for second in range(first, taps):
                sums[first, second] = sums[second, first] = (by_tap[first] * by_tap[second]).sum(dim=0)
    return found.permute(2, 0, 1)


def _columns(layer: Layer) -> int:
    return layer.c_in // layer.groups * layer.kernel[0] * layer.kernel[1]


def _patches(call: Call, layer: Layer) -> Iterator[Tensor]:
    """Yield the inputs that rows of weights are multiplied with, [some positions, taps, c_in] at a time."""
    dims = call.operation.spatial_dims
    x = _padded(call, layer, dims) if dims else call.input.flatten(0, -2)[:, :, None, None]
    taps = [torch.arange(k, device=x.device) * d for k, d in zip(layer.kernel, layer.dilation, strict=True)]
    size = [
        (extent - int(tap[-1]) - 1) // stride + 1
        for extent, tap, stride in zip(x.shape[2:], taps, layer.stride, strict=True)
    ]
    chosen = _spread(len(x) * size[0] * size[1]).to(x.device)
    for some in torch.split(chosen, max(1, _VALUES_AT_ONCE // (layer.groups * _columns(layer)))):
        image, row, column = torch.unravel_index(some, (len(x), *size))
        rows = row[:, None] * layer.stride[0] + taps[0]
        columns = column[:, None] * layer.stride[1] + taps[1]
        patches = x[image[:, None, None], :, rows[:, :, None], columns[:, None, :]]  # [positions, kernel, kernel, c_in]
        yield patches.flatten(1, 2).float()


def _spread(total: int) -> Tensor:
    """Return numbers below `total`, spread evenly by multiples of the golden ratio; all numbers if there are few."""
    if total <= POSITIONS:
        return torch.arange(total)
    return (torch.arange(POSITIONS, dtype=torch.float64) * _GOLDEN % 1 * total).long()


def _padded(call: Call, layer: Layer, dims: int) -> Tensor:
    """Return the padded input, [images, c_in, height, width]; one-dimensional inputs have height 1."""
    x = call.input if call.input.ndim == dims + 2 else call.input[None]
    x = x if dims == 2 else x[:, :, None]
    border = _border(call.arguments.get("padding", 0), layer, dims)
    return F.pad(x, border) if any(border) else x


def _border(padding: Any, layer: Layer, dims: int) -> list[int]:
    """Return the padding (left, right, top, bottom) in pixels."""
    if padding == "valid":
        return [0, 0, 0, 0]
    if padding == "same":
        missing = [d * (k - 1) for d, k in zip(layer.dilation[::-1], layer.kernel[::-1], strict=True)]
        return [part for each in missing for part in (each // 2, each - each // 2)]
    sizes = [padding] * dims if isinstance(padding, int) else list(padding) * (dims // len(padding))
    height, width = [0] * (2 - dims) + sizes
    return [width, width, height, height]
