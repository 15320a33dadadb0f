from collections import Counter

import pytest
import torch
from torch import nn

from haq.errors import UserError
from haq.network.layers import trace
from haq.network.models.yolo.blocks import Convolution, SpatialPyramidPooling
from haq.network.models.yolo.yolov4 import YoloV4
from haq.network.models.yolo.yolov4_tiny import YoloV4Tiny
from haq.network.zoo import build_model


def on_meta(network: type[nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return network()


def weights(model: nn.Module) -> int:
    return sum(module.weight.numel() for module in model.modules() if isinstance(module, nn.Conv2d))


def macs(model: nn.Module, *, side: int) -> int:
    counts = []

    def count(layer: nn.Module, _: object, output: torch.Tensor) -> None:
        assert isinstance(layer, nn.Conv2d)
        counts.append(layer.weight.numel() * output[0, 0].numel())

    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    model(torch.zeros(1, 3, side, side, device="meta"))
    return sum(counts)


def test_yolov4_has_the_published_convolutions_and_weights() -> None:
    model = on_meta(YoloV4)
    blocks = [module for module in model.modules() if isinstance(module, Convolution)]
    names = Counter(type(block.activation).__name__ for block in blocks)
    assert names == {"Mish": 72, "LeakyReLU": 35, "Identity": 3}
    assert weights(model) == 64_296_032
    assert macs(model, side=416) == 30_052_385_792


def test_yolov4_tiny_has_the_published_parameters() -> None:
    model = on_meta(YoloV4Tiny)
    assert sum(parameter.numel() for parameter in model.parameters()) == 6_056_606
    assert macs(model, side=416) == 3_453_938_176
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 21


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("yolov4:0.05", ("head_small", "head_medium", "head_large")),
        ("yolov4_tiny:0.25", ("head_large", "head_medium")),
    ],
)
def test_last_convolution_of_every_head_is_a_head_of_the_network(name: str, heads: tuple[str, ...]) -> None:
    model = build_model(name)
    found = trace(model, torch.zeros(1, 3, 64, 96))
    assert found.heads == tuple(f"{head}.1.conv" for head in heads)
    assert not found.refused


def test_outputs_have_the_strides_of_the_heads() -> None:
    model = build_model("yolov4:0.05", num_classes=2)
    with torch.no_grad():
        outputs = model(torch.zeros(2, 3, 64, 96))
    assert [tuple(output.shape) for output in outputs] == [(2, 21, 8, 12), (2, 21, 4, 6), (2, 21, 2, 3)]
    assert [head.stride for head in model.detection.heads] == [8, 16, 32]


def test_outputs_of_the_small_network_have_the_strides_of_the_heads() -> None:
    model = build_model("yolov4_tiny:0.25", num_classes=2)
    with torch.no_grad():
        outputs = model(torch.zeros(2, 3, 64, 96))
    assert [tuple(output.shape) for output in outputs] == [(2, 21, 2, 3), (2, 21, 4, 6)]
    assert [head.stride for head in model.detection.heads] == [32, 16]


def test_untrained_networks_find_nothing() -> None:
    model = build_model("yolov4_tiny:0.25")
    with torch.no_grad():
        (found,) = model.detection.detect(model(torch.rand(1, 3, 64, 64)))
    assert found.scores.numel() == 0


def test_pyramid_joins_the_largest_window_first() -> None:
    x = torch.zeros(1, 1, 15, 15)
    x[..., 7, 7] = 1
    sums = SpatialPyramidPooling()(x).sum(dim=(2, 3))
    assert sums.tolist() == [[13 * 13, 9 * 9, 5 * 5, 1]]


@pytest.mark.parametrize(("name", "side"), [("yolov4:0.03", 48), ("yolov4_tiny:0.1", 300)])
def test_sides_that_are_no_multiples_of_the_stride_are_refused(name: str, side: int) -> None:
    with pytest.raises(
        UserError, match=rf"images of {side}x{side} pixels: both sides must be multiples of 32, such as"
    ):
        trace(build_model(name), torch.zeros(1, 3, side, side))
