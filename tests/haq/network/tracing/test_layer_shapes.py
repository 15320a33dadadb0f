"""Shapes of layers from the tensors of one call."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from haq.network.tracing.layer_shapes import layer_kind, layer_shape, product_shape
from haq.network.tracing.products import ProductSizes
from haq.network.tracing.weighted_calls import OPERATIONS, Call


def call_of(function: Callable[..., Tensor], x: Tensor, weight: Tensor, **others: Any) -> Call:
    return Call(function, OPERATIONS[function], {"input": x, "weight": weight, **others})


def shape_of(call: Call) -> dict[str, Any]:
    return layer_shape(call, call.run(call.input, call.factor))


def test_convolution_with_numbers_or_pairs() -> None:
    x, weight = torch.zeros(1, 4, 9, 7), torch.zeros(6, 2, 3, 2)
    both = call_of(torch.conv2d, x, weight, stride=(2, 1), dilation=2, groups=2)
    assert shape_of(both) == {
        "c_in": 4,
        "c_out": 6,
        "groups": 2,
        "kernel": (3, 2),
        "stride": (2, 1),
        "dilation": (2, 2),
        "input_size": (9, 7),
        "output_size": (3, 5),
    }
    assert shape_of(call_of(torch.conv2d, x, weight, stride=[2], groups=2))["stride"] == (2, 2)
    plain = shape_of(call_of(torch.conv2d, x, torch.zeros(6, 4, 3, 2)))
    assert (plain["stride"], plain["dilation"], plain["groups"], plain["c_in"]) == ((1, 1), (1, 1), 1, 4)


def test_maps_of_several_regions_are_stacked() -> None:
    found = shape_of(call_of(torch.conv2d, torch.zeros(5, 4, 9, 7), torch.zeros(6, 4, 3, 3)))
    assert (found["input_size"], found["output_size"]) == ((45, 7), (35, 5))
    unbatched = shape_of(call_of(torch.conv2d, torch.zeros(4, 9, 7), torch.zeros(6, 4, 3, 3)))
    assert (unbatched["input_size"], unbatched["output_size"]) == ((9, 7), (7, 5))


def test_one_dimensional_convolution_is_one_pixel_high() -> None:
    found = shape_of(call_of(torch.conv1d, torch.zeros(1, 4, 9), torch.zeros(6, 4, 3), stride=2))
    assert (found["kernel"], found["stride"], found["input_size"], found["output_size"]) == (
        (1, 3),
        (1, 2),
        (1, 9),
        (1, 4),
    )


def test_transposed_convolution_swaps_channels() -> None:
    found = shape_of(
        call_of(torch.conv_transpose2d, torch.zeros(1, 4, 3, 3), torch.zeros(4, 5, 2, 2), groups=2, stride=2)
    )
    assert (found["c_in"], found["c_out"], found["output_size"]) == (4, 10, (6, 6))


def test_linear_and_embedding_have_positions() -> None:
    assert shape_of(call_of(F.linear, torch.zeros(2, 7, 5), torch.zeros(3, 5))) == {
        "c_in": 5,
        "c_out": 3,
        "input_size": (14, 1),
        "output_size": (14, 1),
    }
    assert shape_of(call_of(F.embedding, torch.zeros(1, 7, dtype=torch.int64), torch.zeros(11, 3))) == {
        "c_in": 11,
        "c_out": 3,
        "input_size": (7, 1),
        "output_size": (7, 1),
    }


@pytest.mark.parametrize(("groups", "channels", "kind"), [(4, 1, "depthwise"), (2, 2, "conv"), (1, 1, "conv")])
def test_depthwise_convolutions_have_one_channel_in_each_of_several_groups(
    groups: int, channels: int, kind: str
) -> None:
    weight = torch.zeros(4, channels, 3, 3)
    assert layer_kind(call_of(torch.conv2d, torch.zeros(1, groups * channels, 5, 5), weight, groups=groups)) == kind


def test_convolutions_without_groups_have_one() -> None:
    assert layer_kind(call_of(torch.conv2d, torch.zeros(1, 1, 5, 5), torch.zeros(4, 1, 3, 3))) == "conv"


def test_transposed_convolutions_are_never_depthwise() -> None:
    call = call_of(torch.conv_transpose2d, torch.zeros(1, 4, 5, 5), torch.zeros(4, 1, 3, 3), groups=4)
    assert layer_kind(call) == "conv_transpose"
    assert layer_kind(call_of(F.linear, torch.zeros(1, 1), torch.zeros(3, 1))) == "linear"


def test_products_are_groups() -> None:
    assert product_shape(ProductSizes(groups=2, rows=5, columns=3, depth=4)) == {
        "c_in": 8,
        "c_out": 6,
        "groups": 2,
        "input_size": (5, 1),
        "output_size": (5, 1),
    }
