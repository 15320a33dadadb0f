"""Random crops and flips of training images, for a whole batch at once."""

import torch
from torch import Generator, Tensor

from haq.execution.structures import Structure
from haq.quantization.training.config import Augmentation
from haq.tasks.base import Batch, Task
from haq.tasks.optional import AugmentingTask

MARGIN = 8
"""Images are shifted by up to their side divided by this: 4 of 32 pixels, as is usual for CIFAR (He et al. 2016)."""


def augmented(task: Task, batch: Batch, how: Augmentation, generator: Generator) -> Batch:
    """Augment a batch as its task does it, or its images alone where the targets do not depend on places in them.

    Args:
        task: Task of the batch.
        batch: Inputs and targets.
        how: Kind of augmentation.
        generator: Random number generator on the CPU.

    Returns:
        Inputs and targets.
    """
    inputs, targets = batch
    if isinstance(task, AugmentingTask):
        return task.augment(inputs, targets, how, generator)
    return augment(inputs, how, generator), targets


def augment(images: Structure, how: Augmentation, generator: Generator) -> Structure:
    """Crop images at random from a zero-padded frame, and flip every other one if requested.

    Args:
        images: Images [n, c, h, w]; other inputs are returned unchanged.
        how: Kind of augmentation; `auto` for `flip-crop` with three channels, else `none`.
        generator: Random number generator.

    Returns:
        Images in the same shape.

    Examples:
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
    return (taken * inside[..., None]).movedim(-1, 1)  # a view; channels-last in memory


def _resolved(images: Tensor, how: Augmentation) -> Augmentation:
    """Resolve `auto`: colour images show objects, which may be flipped; digits may not."""
    if how != "auto":
        return how
    return "flip-crop" if images.shape[1] == 3 else "none"


def _moved(side: int, count: int, generator: Generator) -> Tensor:
    """Return source pixels [count, side] of a shift by up to `side / MARGIN` in either direction."""
    most = max(1, side // MARGIN)
    offsets = torch.randint(-most, most + 1, (count,), generator=generator)
    return torch.arange(side) + offsets[:, None]
