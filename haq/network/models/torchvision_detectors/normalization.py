"""Normalization of the images of torchvision's detectors, which have a fixed size."""

from typing import Any

import torch
from torch import Tensor, nn


class Normalization(nn.Module):
    """Normalization of square images of a fixed size.

    Args:
        transform: Transform of a detector of torchvision, with means and deviations of RGB values in [0, 1].
        side: Width and height of images, pixels.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, transform: Any, side: int) -> None:
        super().__init__()
        self.side = side
        # Not part of the state, so that this is the state of torchvision's network.
        self.register_buffer("mean", torch.tensor(transform.image_mean).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor(transform.image_std).view(3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalize images.

        Args:
            x: Images [n, 3, side, side] of RGB values in [0, 1].

        Returns:
            Normalized images.

        Raises:
            ValueError: The images have another size.
        """
        if x.shape[1:] != (3, self.side, self.side):
            raise ValueError(f"expected images [n, 3, {self.side}, {self.side}], found {list(x.shape)}")
        return (x - self.mean) / self.deviation
