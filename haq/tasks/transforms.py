"""Transforms from a picture to an input of the network."""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from haq.errors import UserError
from haq.tasks.options import TaskOptions

Transform = Callable[[Image.Image], Tensor]
"""Function from a picture to an input of the network, [c, h, w]."""

MAX_PIXELS = 64_000_000
"""Largest number of pixels of an image, as stored and after resizing: 256 MB in memory."""
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageTransform:
    """Transform that resizes the shorter side, crops the centre, scales to [0, 1] and normalizes; None skips a step.

    Sizes are rounded as in torchvision.

    Attributes:
        resize: Length of the shorter side after resizing, in pixels.
        crop: Side of the central square that is kept, in pixels.
        mean: Mean of each channel; one value converts to grey, three convert to colour.
        std: Standard deviation of each channel.
        interpolation: Interpolation of resizing.

    Raises:
        UserError: The crop is larger than the resized images.
    """

    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"

    def __post_init__(self) -> None:
        if self.resize and self.crop and self.resize < self.crop:
            raise UserError(f"a crop of {self.crop} does not fit into images resized to {self.resize}; change one")

    def __call__(self, image: Image.Image) -> Tensor:
        """Transform a picture.

        Args:
            image: Picture of any size and mode.

        Returns:
            Input of the network, float32 [c, h, w].

        Raises:
            UserError: The picture is smaller than the crop, or too large after resizing.
        """
        image = image.convert("L" if len(self.mean) == 1 else "RGB")
        image = _resize_and_crop(image, self)
        pixels = torch.from_numpy(np.array(image).reshape(image.height, image.width, -1))
        scaled = pixels.permute(2, 0, 1).to(torch.float32).div(255)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return scaled.sub(mean).div(std)


IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGENET = ImageTransform(resize=256, crop=224, mean=IMAGENET_MEAN, std=IMAGENET_STD)
"""Default transform of image folders."""
CIFAR = ImageTransform(mean=IMAGENET_MEAN, std=IMAGENET_STD)
"""Default transform of CIFAR-10."""
GREY = ImageTransform(mean=(0.0,), std=(1.0,))
"""Default transform of Fashion-MNIST."""

_NORMALIZATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": ((0.5,) * 3, (0.5,) * 3),
    "none": ((0.0,) * 3, (1.0,) * 3),
}


def resolve_transform(model: nn.Module | None, default: ImageTransform, options: TaskOptions) -> Transform:
    """Choose the transform of images: that of the model, else timm's for its models, else the default.

    A transform that is a function of the model cannot be changed: with options, the changed default is used instead.

    Args:
        model: Model that may have an attribute `transform`; None for none.
        default: Transform of the data set.
        options: Changes by the user.

    Returns:
        The transform.

    Raises:
        UserError: The options do not fit the images.
    """
    found = _model_transform(model)
    if found is None or (options.changes_transform and not isinstance(found, ImageTransform)):
        found = default
    return _changed(found, options) if isinstance(found, ImageTransform) else found


def describe_transform(transform: Transform) -> Any:
    """Describe a transform for the configuration of a run.

    Args:
        transform: Transform of images.

    Returns:
        Plain values that are the same in every process.
    """
    if not isinstance(transform, ImageTransform):
        return re.sub(r" at 0x[0-9a-f]+", "", " ".join(repr(transform).split()))
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(transform).items()}


def _model_transform(model: nn.Module | None) -> Transform | None:
    transform = getattr(model, "transform", None)
    if callable(transform):
        return cast(Transform, transform)
    return _timm_transform(model) if hasattr(model, "pretrained_cfg") else None


def _timm_transform(model: nn.Module | None) -> Transform:
    timm_data: Any = import_module("timm.data")
    config: Mapping[str, Any] = timm_data.resolve_model_data_config(model)
    if config["crop_mode"] != "center" or config["interpolation"] not in _FILTERS:
        return cast(Transform, timm_data.create_transform(**config, is_training=False))
    crop = config["input_size"][-1]
    return ImageTransform(
        resize=int(crop / config["crop_pct"]),
        crop=crop,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=config["interpolation"],
    )


def _changed(transform: ImageTransform, options: TaskOptions) -> ImageTransform:
    changes: dict[str, Any] = {
        name: value for name in ("resize", "crop") if (value := getattr(options, name)) is not None
    }
    if options.normalize is not None:
        channels = len(transform.mean)
        if options.normalize == "imagenet" and channels != 3:
            raise UserError("--normalize imagenet is for colour images and these are grey; choose half or none")
        mean, std = _NORMALIZATIONS[options.normalize]
        changes |= {"mean": mean[:channels], "std": std[:channels]}
    return replace(transform, **changes)


def _resize_and_crop(image: Image.Image, transform: ImageTransform) -> Image.Image:
    width, height = _resized(image.size, transform.resize)
    if width * height > MAX_PIXELS:
        return _resize_crop_alone(image, (width, height), transform)
    if (width, height) != image.size:
        image = image.resize((width, height), _FILTERS[transform.interpolation])
    return image if transform.crop is None else image.crop(_centre(image.size, transform.crop))


def _resized(size: tuple[int, int], shorter: int | None) -> tuple[int, int]:
    """Return width and height after the shorter side is resized to a length."""
    width, height = (side if shorter is None else shorter * side // min(size) for side in size)
    return width, height


def _resize_crop_alone(image: Image.Image, size: tuple[int, int], transform: ImageTransform) -> Image.Image:
    """Resize only the part that the crop keeps; equal to resizing everything, except for rounding."""
    crop = transform.crop
    if crop is None:
        raise UserError(
            f"an image of {image.width}x{image.height} becomes {size[0]}x{size[1]} where its shorter side is resized "
            f"to {transform.resize}, more than {MAX_PIXELS // 10**6} million pixels; give --crop"
        )
    scale_x, scale_y = image.width / size[0], image.height / size[1]
    left, top, right, bottom = _centre(size, crop)
    box = (left * scale_x, top * scale_y, right * scale_x, bottom * scale_y)
    return image.resize((crop, crop), _FILTERS[transform.interpolation], box=box)


def _centre(size: tuple[int, int], crop: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a square in the centre."""
    if min(size) < crop:
        raise UserError(f"an image of {size[0]}x{size[1]} is smaller than the crop of {crop}; give --resize")
    left, top = (round((side - crop) / 2.0) for side in size)
    return left, top, left + crop, top + crop
