"""Moved and mirrored images."""

import pytest
import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from haq.quantization.training.augmentation import augment


def moved(image: Tensor, up: int, left: int) -> Tensor:
    most = image.shape[-1] // 8
    frame = pad(image, (most,) * 4)
    return frame[:, most + up : most + up + image.shape[1], most + left : most + left + image.shape[2]]


@pytest.mark.parametrize("how", ["crop", "flip-crop"])
def test_every_image_is_a_crop_of_itself(how: str) -> None:
    images = torch.rand(40, 2, 16, 16, generator=Generator().manual_seed(0)) + 1
    seen = set()
    for image, taken in zip(images, augment(images, how, Generator().manual_seed(1)), strict=True):
        options = {
            (up, left, flipped): moved(image.flip(2) if flipped else image, up, left)
            for up in range(-2, 3)
            for left in range(-2, 3)
            for flipped in ((False, True) if how == "flip-crop" else (False,))
        }
        found = [key for key, option in options.items() if torch.equal(option, taken)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 15


def test_auto_mirrors_colour_images_alone() -> None:
    grey, colour, vectors = torch.rand(4, 1, 8, 8), torch.rand(4, 3, 8, 8), torch.rand(4, 3)
    generator = Generator().manual_seed(0)
    assert augment(grey, "auto", generator) is grey
    assert augment(vectors, "crop", generator) is vectors
    assert not torch.equal(augment(colour, "auto", generator), colour)


def test_memory_stays_channels_last() -> None:
    images = torch.rand(4, 3, 16, 16).to(memory_format=torch.channels_last)
    assert augment(images, "flip-crop", Generator()).is_contiguous(memory_format=torch.channels_last)
