"""ResNet-8: its shapes by hand, TensorFlow's padding, and its accuracy with the published weights."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from haq.network.layers import trace
from haq.network.models.resnet8 import ResNet8
from haq.network.zoo import load_model

WEIGHTS = "mlperf_tiny_resnet8_cifar10_fp32.pth"


def test_products_are_those_of_the_benchmark() -> None:
    layers = trace(load_model("resnet8"), torch.zeros(1, 3, 32, 32)).layers
    assert sum(layer.macs for layer in layers) == 12_501_632
    assert sum(layer.weight_count for layer in layers) == 77_360


def test_stride_2_sees_the_pixels_that_tensorflow_does() -> None:
    """A kernel of ones at stride 2 adds rows and columns 0 to 2, and at the far corner the last two of each."""
    block = ResNet8().b[1]
    with torch.no_grad():
        block.conv1.weight.fill_(1)
        block.conv1.bias.zero_()
        block.conv2.weight.zero_()
        block.conv2.weight[:, 0, 1, 1] = 1
        block.conv2.bias.zero_()
        block.short.weight.zero_()
        block.short.bias.zero_()
        image = torch.zeros(1, 16, 32, 32)
        image[0, 0] = torch.arange(32.0)[:, None] + 100 * torch.arange(32.0)[None]
        result = block(image)[0, 0]
    assert result.shape == (16, 16)
    assert result[0, 0] == image[0, 0, :3, :3].sum()
    assert result[15, 15] == image[0, 0, 30:, 30:].sum()


def test_transform_keeps_pixels() -> None:
    pixels = np.arange(3072, dtype=np.uint32).reshape(32, 32, 3).astype(np.uint8)
    values = ResNet8.transform(Image.fromarray(pixels))
    torch.testing.assert_close(values, torch.from_numpy(pixels).permute(2, 0, 1).float())


@pytest.mark.data
def test_published_weights_recognize_test_images(data_dir: Path) -> None:
    model = load_model("resnet8", weights=data_dir / "weights" / WEIGHTS)
    with np.load(data_dir / "cifar10_jpeg" / "cifar10_jpeg_test.npz") as pack:
        data, offsets, header, labels = (pack[name] for name in ("data", "offsets", "header", "labels"))
    chosen = range(0, 10_000, 40)
    files = (header.tobytes() + data[offsets[at] : offsets[at + 1]].tobytes() for at in chosen)
    images = torch.stack([model.transform(Image.open(io.BytesIO(file))) for file in files])
    with torch.no_grad():
        right = model(images).argmax(1) == torch.from_numpy(labels[::40].astype(np.int64))
    assert right.float().mean() > 0.7  # 75.5 % of all 10,000; the wrong padding recognizes half of them
