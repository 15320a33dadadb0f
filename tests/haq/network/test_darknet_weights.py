import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from haq.errors import UserError
from haq.network.darknet_weights import write_darknet
from haq.network.weight_files import load_weights
from haq.network.zoo import build_model, default_input_shape, load_model
from tests.haq.network.models.darknet.yolov4_cfg import yolov4_cfg, yolov4_tiny_cfg

SMALL = """[net]
width=8
height=8
[convolutional]
batch_normalize=1
filters=2
size=1
activation=leaky
[convolutional]
filters=6
size=1
activation=linear
[yolo]
anchors=4,4
classes=1
num=1
"""
COUNT = 4 * 2 + 2 * 3 + 6 + 6 * 2
HEADER = struct.pack("<3iq", 0, 2, 5, 0)


@pytest.fixture
def small(tmp_path: Path) -> str:
    (tmp_path / "small.cfg").write_text(SMALL)
    return f"darknet:{tmp_path / 'small.cfg'}"


def values(count: int = COUNT, **changed: float) -> bytes:
    content = np.arange(1, count + 1, dtype="<f4")
    for place, value in changed.items():
        content[int(place.removeprefix("at"))] = value
    return content.tobytes()


def randomized(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.copy_(noise + 0.5 if "running_var" in name else (noise - 0.5) * (2 if tensor.ndim == 1 else 0.5))
    return model


@pytest.mark.parametrize(("name", "cfg"), [("yolov4", yolov4_cfg), ("yolov4_tiny", yolov4_tiny_cfg)])
def test_written_weights_give_the_same_outputs_by_cfg_and_built_in(
    name: str, cfg: Callable[..., str], tmp_path: Path
) -> None:
    path, weights = tmp_path / "a.cfg", tmp_path / "a.weights"
    path.write_text(cfg(4, classes=80, side=64))
    built_in = f"{name}:0.125"
    model = randomized(build_model(built_in))
    write_darknet(model, weights)
    read, described = load_model(built_in, weights=weights), load_model(f"darknet:{path}", weights=weights)
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = model(x)
        assert all(map(torch.equal, read(x), wanted))
        assert all(torch.allclose(*pair, rtol=1e-4, atol=1e-5) for pair in zip(described(x), wanted, strict=True))
    assert described.detection == model.detection
    assert default_input_shape(f"darknet:{path}") == (3, 64, 64)


def test_values_are_in_the_order_of_darknet(small: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(HEADER + values())
    model = load_model(small, weights=tmp_path / "w")
    norm, conv = model.layers[0].norm, model.layers[0].conv
    assert [norm.bias.tolist(), norm.weight.tolist()] == [[1, 2], [3, 4]]
    assert [norm.running_mean.tolist(), norm.running_var.tolist()] == [[5, 6], [7, 8]]
    assert conv.weight.flatten().tolist() == [9, 10, 11, 12, 13, 14]
    assert model.layers[1].conv.bias.tolist() == [15, 16, 17, 18, 19, 20]
    assert model.layers[1].conv.weight[0].flatten().tolist() == [21, 22]


def test_versions_before_0_2_count_images_in_32_bits(small: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(struct.pack("<4i", 0, 1, 0, 7) + values())
    assert load_model(small, weights=tmp_path / "w").layers[0].norm.bias.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + values()[:-4], f"holds {COUNT - 1} values, and the model needs {COUNT}; it is of another network"),
        (HEADER + values(COUNT + 1), f"holds {COUNT + 1} values, and the model needs {COUNT}"),
        (HEADER + values()[:-3], f"holds {COUNT - 0.75} values"),
        (HEADER[:14], f"holds -1.5 values, and the model needs {COUNT}"),
        (HEADER + values(at20=float("nan")), r"holds NaN or infinity in layers\.1\.conv\.weight"),
        (HEADER + values(at7=-1), r"negative variances for layers\.0\.norm\.running_var; it is of another network"),
        (struct.pack("<3iq", 1, 0, 0, 0) + values(), "is of an unknown kind"),
    ],
)
def test_files_that_do_not_fit_are_refused(content: bytes, message: str, small: str, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        load_model(small, weights=tmp_path / "w")
    assert "\n" not in str(caught.value)


def test_other_networks_do_not_take_darknet_weights(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(HEADER + values())
    with pytest.raises(UserError, match=r"Darknet's weights, which fit yolov4, yolov4_tiny and darknet:FILE\.cfg"):
        load_weights(nn.Linear(3, 2), tmp_path / "w")
    with pytest.raises(UserError, match="Darknet's weights"):
        load_model("lstm_300", weights=tmp_path / "w")


def test_number_of_classes_is_that_of_the_cfg(small: str) -> None:
    assert build_model(small, num_classes=1).detection.num_classes == 1
    with pytest.raises(UserError, match=r"small\.cfg has 1 classes, not 3; change its \[yolo\] sections"):
        build_model(small, num_classes=3)


@pytest.mark.data
@pytest.mark.parametrize(("name", "expected"), [("yolo-fastest-1.1", 9), ("yolo-fastest-1.1-xl", 11)])
def test_yolo_fastest_finds_the_published_boxes(name: str, expected: int, data_dir: Path) -> None:
    from PIL import Image
    from torchvision.ops import box_iou

    folder = data_dir / "detection"
    path = folder / "yolo_fastest" / name
    model = load_model(f"darknet:{path}.cfg", weights=f"{path}.weights")
    found = total = 0
    for label in sorted((folder / "coco8" / "labels").rglob("*.txt")):
        rows = torch.from_numpy(np.loadtxt(label, ndmin=2)).float()
        truth = torch.cat((rows[:, 1:3] - rows[:, 3:] / 2, rows[:, 1:3] + rows[:, 3:] / 2), dim=1) * 320
        image_path = folder / "coco8" / "images" / label.parent.name / f"{label.stem}.jpg"
        image = Image.open(image_path).convert("RGB").resize((320, 320), Image.Resampling.BILINEAR)
        x = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
        with torch.no_grad():
            (detected,) = model.detection.detect(model(x))
        likely = detected.scores > 0.3
        hits = box_iou(truth, detected.boxes[likely]) > 0.5
        found += int((hits & (rows[:, :1] == detected.labels[likely])).any(dim=1).sum())
        total += len(rows)
    assert (found, total) == (expected, 30)
