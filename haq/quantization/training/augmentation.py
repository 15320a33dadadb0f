"""Train images moved and mirrored at random, a whole batch at once."""

import torch
from torch import Generator, Tensor

from haq.execution.structures import Structure
from haq.quantization.training.config import Augmentation

MARGIN = 8
"""Images are moved by up to this part of their side: 4 pixels of 32, as is usual for CIFAR (He et al. 2016)."""


def augment(images: Structure, how: Augmentation, generator: Generator) -> Structure:
    """Images [n, c, h, w] cropped at random from a frame of zeros around them, and every other mirrored if asked.

    What is not a batch of images stays as it is.

    >>> augment(torch.ones(1, 1, 8, 8), "crop", torch.Generator().manual_seed(0)).shape
    torch.Size([1, 1, 8, 8])
    """
    if not isinstance(images, Tensor) or images.ndim != 4:
        return images
    kind = _resolved(images, how)
    if kind == "none":
        return images
    count, _, height, width = images.shape
    rows = _moved(height, count, generator)
    columns = _moved(width, count, generator)
    if kind == "flip-crop":
        mirrored = torch.rand(count, generator=generator) < 0.5
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    places = torch.arange(count)[:, None, None]
    last = images.movedim(1, -1)
    taken = last[places, rows.clamp(0, height - 1)[:, :, None], columns.clamp(0, width - 1)[:, None, :]]
    return (taken * inside[..., None]).movedim(-1, 1)  # a view: memory is channels-last


def _resolved(images: Tensor, how: Augmentation) -> Augmentation:
    """Mirrored digits are no digits; colour images are of things."""
    if how != "auto":
        return how
    return "flip-crop" if images.shape[1] == 3 else "none"


def _moved(side: int, count: int, generator: Generator) -> Tensor:
    """Source pixels [count, side] of a shift by up to `side / MARGIN` either way."""
    most = max(1, side // MARGIN)
    offsets = torch.randint(-most, most + 1, (count,), generator=generator)
    return torch.arange(side) + offsets[:, None]
