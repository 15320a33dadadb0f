"""Images and boxes in the size of a network's input: resized with their aspect ratio, on a grey background."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from haq.errors import UserError
from haq.tasks.detection.outputs import GroundTruth
from haq.tasks.transforms import Transform, describe_transform

GREY = 114
"""Brightness of the background of 0 to 255, as in the YOLO detectors that are trained with letterboxes."""


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Transform of an image and its boxes to the size of a network's input.

    The image is scaled by one factor so that it just fits, and centred.

    Attributes:
        height: Height of the input, pixels.
        width: Width of the input, pixels.
        transform: Transform of the resized picture to a tensor, which must not change its size.
    """

    height: int
    width: int
    transform: Transform

    def __call__(self, image: Image.Image, truth: GroundTruth) -> tuple[torch.Tensor, GroundTruth]:
        """Transform an image and its boxes.

        Args:
            image: Picture of any size and mode.
            truth: Its objects, with boxes in its pixels.

        Returns:
            Input of the network [c, height, width], and the objects with boxes in its pixels.

        Raises:
            UserError: The transform changes the size of the picture.
        """
        scale = min(self.width / image.width, self.height / image.height)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        left, top = (self.width - size[0]) // 2, (self.height - size[1]) // 2
        framed = Image.new("RGB", (self.width, self.height), (GREY,) * 3)
        framed.paste(image.convert("RGB").resize(size, Image.Resampling.BILINEAR), (left, top))
        values = self.transform(framed)
        if values.shape[1:] != (self.height, self.width):
            raise UserError(
                f"the network's `transform` makes {tuple(values.shape)} of a picture of {self.width}x{self.height}, "
                "so that boxes no longer fit; give one that keeps the size"
            )
        factors = torch.tensor([size[0] / image.width, size[1] / image.height] * 2)
        return values, truth._replace(boxes=truth.boxes * factors + torch.tensor([left, top] * 2))

    def facts(self) -> Mapping[str, Any]:
        """Return a description for the configuration of a run."""
        return {
            "height": self.height,
            "width": self.width,
            "letterbox": GREY,
            "transform": describe_transform(self.transform),
        }
