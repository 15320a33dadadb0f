from typing import Any, Literal

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as reference
from PIL import Image
from torch import Tensor, nn

from haq.errors import UserError
from haq.tasks.options import TaskOptions
from haq.tasks.transforms import (
    GREY,
    IMAGENET,
    IMAGENET_MEAN,
    IMAGENET_STD,
    MAX_PIXELS,
    ImageTransform,
    describe_transform,
    resolve_transform,
)


def picture(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(300, 400), (257, 256), (640, 331), (64, 48), (227, 227)])
def test_default_equals_torchvision_exactly(size: tuple[int, int]) -> None:
    steps = [
        reference.Resize(256),
        reference.CenterCrop(224),
        reference.PILToTensor(),
        reference.ToDtype(torch.float32, scale=True),
        reference.Normalize(IMAGENET_MEAN, IMAGENET_STD),
    ]
    torch.testing.assert_close(IMAGENET(picture(*size)), reference.Compose(steps)(picture(*size)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 48), (331, 640), (9, 200)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_only_the_crop_differs_by_rounding(
    size: tuple[int, int], interpolation: Literal["bilinear", "bicubic"], monkeypatch: pytest.MonkeyPatch
) -> None:
    transform = ImageTransform(resize=40, crop=32, interpolation=interpolation)
    width, height = size
    rows, columns = np.indices((height, width))
    smooth = Image.fromarray((100 * rows / height + 100 * columns / width).astype(np.uint8))
    usual = transform(smooth)
    monkeypatch.setattr("haq.tasks.transforms.MAX_PIXELS", 0)
    torch.testing.assert_close(transform(smooth), usual, rtol=0, atol=2.01 / 255)


@pytest.mark.parametrize("size", [(1, 20_000), (40_000, 1)])
def test_long_image_is_not_resized_as_a_whole(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    resize, sizes = Image.Image.resize, list[tuple[int, int]]()

    def recorded(image: Image.Image, to: tuple[int, int], *arguments: Any, **settings: Any) -> Image.Image:
        sizes.append(to)
        return resize(image, (1, 1) if to[0] * to[1] > MAX_PIXELS else to, *arguments, **settings)

    monkeypatch.setattr(Image.Image, "resize", recorded)
    assert IMAGENET(Image.new("RGB", size)).shape == (3, 224, 224)
    assert sizes == [(224, 224)]


def test_image_that_becomes_too_large_needs_a_crop() -> None:
    with pytest.raises(UserError, match=r"1x20000 becomes 256x5120000 .* more than 64 million pixels; give --crop"):
        ImageTransform(resize=256)(Image.new("RGB", (1, 20_000)))


def test_pixel_values_by_hand() -> None:
    image = Image.fromarray(np.array([[0, 255], [51, 102]], dtype=np.uint8))
    assert torch.equal(GREY(image), torch.tensor([[[0.0, 1.0], [0.2, 0.4]]]))
    half = ImageTransform(mean=(0.5,), std=(0.5,))
    torch.testing.assert_close(half(image), torch.tensor([[[-1.0, 1.0], [-0.6, -0.2]]]))


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "1"])
def test_all_picture_modes_give_three_channels(mode: str) -> None:
    assert ImageTransform()(picture(4, 3).convert(mode)).shape == (3, 3, 4)


def own(image: Image.Image) -> Tensor:
    return torch.full((1, 2, 2), float(image.width))


class WithTransform(nn.Module):
    transform = staticmethod(own)


def test_model_transform_precedes_default() -> None:
    assert resolve_transform(WithTransform(), IMAGENET, TaskOptions())(picture(9, 9)).max() == 9
    assert resolve_transform(nn.Identity(), IMAGENET, TaskOptions()) == IMAGENET
    assert resolve_transform(None, GREY, TaskOptions()) == GREY


def test_options_precede_model_transform() -> None:
    resolved = resolve_transform(WithTransform(), IMAGENET, TaskOptions(crop=200, normalize="half"))
    assert resolved == ImageTransform(resize=256, crop=200, mean=(0.5,) * 3, std=(0.5,) * 3)


def test_timm_configuration_is_used() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("mobilenetv3_small_050", pretrained=False)
    resolved = resolve_transform(model, GREY, TaskOptions(resize=300))
    assert isinstance(resolved, ImageTransform)
    assert (resolved.resize, resolved.crop, resolved.interpolation) == (300, 224, "bicubic")


def test_descriptions_are_plain_and_reproducible() -> None:
    assert describe_transform(GREY) == {
        "resize": None, "crop": None, "mean": [0.0], "std": [1.0], "interpolation": "bilinear",
    }  # fmt: skip
    assert describe_transform(own) == "<function own>"


def test_too_large_crops_raise() -> None:
    with pytest.raises(UserError, match="crop of 224 does not fit into images resized to 128"):
        resolve_transform(None, IMAGENET, TaskOptions(resize=128))
    with pytest.raises(UserError, match="image of 20x30 is smaller than the crop of 24"):
        ImageTransform(crop=24)(picture(20, 30))


def test_colour_normalization_of_grey_images_raises() -> None:
    with pytest.raises(UserError, match="grey"):
        resolve_transform(None, GREY, TaskOptions(normalize="imagenet"))
