"""Folders with COCO's annotations or YOLO's labels."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from haq.errors import UserError
from haq.tasks import load_task
from haq.tasks.detection.outputs import GroundTruth
from haq.tasks.detection.task import DetectionTask
from haq.tasks.options import TaskOptions

OPTIONS = TaskOptions(resize=32, search_images=2)
RED, GREEN = {"id": 3, "name": "red"}, {"id": 7, "name": "green"}


def picture(path: Path, size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (200, 100, 50)).save(path)


def annotations(part: str, *boxes: dict[str, Any]) -> dict[str, Any]:
    return {
        "images": [{"id": 10 * number, "file_name": f"{part}{number}.png"} for number in range(4)],
        "annotations": [{"id": number, "image_id": 10, "category_id": 7, **box} for number, box in enumerate(boxes)],
        "categories": [RED, GREEN],
    }


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """Four images of each part; the second has a green object, the others none."""
    for part in ("train", "val"):
        for number in range(4):
            picture(tmp_path / f"{part}2017" / f"{part}{number}.png")
        write(tmp_path, part, annotations(part, {"bbox": [2.0, 1.0, 10.0, 4.0]}))
    return tmp_path


def write(folder: Path, part: str, document: Any) -> None:
    file = folder / "annotations" / f"instances_{part}2017.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(document if isinstance(document, str) else json.dumps(document))


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """The same in YOLO's format; the third image has an empty file of labels, the others none."""
    for part in ("train", "val"):
        for number in range(4):
            picture(tmp_path / "images" / part / f"{part}{number}.png")
        labels = tmp_path / "labels" / part
        labels.mkdir(parents=True)
        (labels / f"{part}1.txt").write_text("1 0.35 0.3 0.5 0.4\n")
        (labels / f"{part}2.txt").touch()
    (tmp_path / "classes.txt").write_text("red\ngreen\n")
    return tmp_path


def loaded(folder: Path, options: TaskOptions = OPTIONS, model: nn.Module | None = None) -> DetectionTask:
    task = load_task(f"coco:{folder}", model=model, options=options)
    assert isinstance(task, DetectionTask)
    return task


def objects(task: DetectionTask, split: Any = "train") -> list[GroundTruth]:
    return [truth for _, targets in task.batches(split, batch_size=2) for truth in targets]


@pytest.mark.parametrize("layout", ["coco", "yolo"])
def test_boxes_are_scaled_and_moved_with_the_image(layout: str, request: pytest.FixtureRequest) -> None:
    task = loaded(request.getfixturevalue(layout))
    assert task.class_names == ("red", "green")
    (truth,) = [truth for truth in objects(task) if len(truth.labels)]
    # 20x10 becomes 32x16, 8 pixels below the upper border: factor 1.6.
    assert torch.allclose(truth.boxes, torch.tensor([[3.2, 9.6, 19.2, 16.0]]))
    assert truth.labels.tolist() == [1]
    image = task.example()[0]
    assert image.shape == (3, 32, 32)
    assert torch.allclose(image[:, 4, 16], torch.tensor(114 / 255))
    assert torch.allclose(image[:, 16, 16], torch.tensor([200.0, 100.0, 50.0]) / 255)


def test_images_without_objects_are_allowed(coco: Path) -> None:
    task = loaded(coco, TaskOptions(resize=32, search_images=3))
    assert sorted(len(truth.labels) for truth in objects(task)) == [0, 0, 0, 1]


def test_parts_of_val_are_disjoint_and_calibration_is_train(coco: Path) -> None:
    splits = loaded(coco).splits
    assert {name: len(split) for name, split in splits.items()} == {
        "train": 4,
        "calibration": 4,
        "search": 2,
        "report": 2,
    }


def test_a_scored_split_without_objects_is_refused(coco: Path) -> None:
    write(coco, "val", annotations("val"))
    with pytest.raises(UserError, match=r"no image of the search split .* has an object"):
        loaded(coco).prepare()


def test_crowds_and_boxes_without_area(coco: Path) -> None:
    box = [2.0, 1.0, 10.0, 4.0]
    write(coco, "train", annotations("train", {"bbox": box, "iscrowd": 1}, {"bbox": [1.0, 1.0, 5.0, 0.0]}))
    (truth,) = [truth for truth in objects(loaded(coco)) if len(truth.labels)]
    assert truth.crowd.tolist() == [True]


def test_boxes_that_cross_the_border_are_clipped(coco: Path) -> None:
    write(coco, "train", annotations("train", {"bbox": [-2.0, 1.0, 50.0, 4.0]}))
    (truth,) = [truth for truth in objects(loaded(coco)) if len(truth.labels)]
    assert torch.allclose(truth.boxes, torch.tensor([[0.0, 9.6, 32.0, 16.0]]))


def test_names_are_those_of_classes_txt_in_its_order(coco: Path) -> None:
    (coco / "classes.txt").write_text("blue\ngreen\nred\n")
    task = loaded(coco)
    assert len(task.class_names) == 3
    assert {label for truth in objects(task) for label in truth.labels.tolist()} == {1}


def test_size_is_that_of_option_input_and_network(coco: Path) -> None:
    model = Tall()
    assert loaded(coco, TaskOptions(search_images=2), model).example().shape == (1, 3, 64, 32)
    given = TaskOptions(search_images=2, input=(3, 32, 64))
    assert loaded(coco, given, model).example().shape == (1, 3, 32, 64)
    assert loaded(coco, OPTIONS, model).example().shape == (1, 3, 32, 32)


def test_a_transform_that_changes_the_size_is_refused(coco: Path) -> None:
    with pytest.raises(UserError, match="boxes no longer fit"):
        loaded(coco, TaskOptions(search_images=2), Shrinking()).example()


class Tall(nn.Identity):
    input_size = (64, 32)


class Shrinking(nn.Identity):
    def transform(self, _: Image.Image) -> torch.Tensor:
        return torch.zeros(3, 8, 8)


def broken(**box: Any) -> dict[str, Any]:
    return annotations("train", {"bbox": [2.0, 1.0, 10.0, 4.0], **box})


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "is no file of COCO annotations"),
        ('{"images": [], "annotations": []}', "categories: field required"),
        (broken(bbox=[1.0, float("nan"), 1.0, 1.0]), "finite number"),
        (broken(bbox=[1.0, 2.0, 1.0]), "annotations.0.bbox"),
        (broken(category_id=5), "annotation 0: category 5 is not among"),
        (broken(image_id=5), "annotation 0: image 5 is not among"),
        (broken(bbox=[1.0, 1.0, -1.0, 4.0]), "annotation 0: a box of negative width"),
        (broken(bbox=[30.0, 1.0, 4.0, 4.0]), r"annotation 0: the box .* lies outside its image of 20x10"),
        (annotations("other"), r"other0\.png is missing, .*4 of 4 images"),
        (annotations("train") | {"images": []}, "lists no images"),
        (annotations("train") | {"images": 2 * annotations("train")["images"]}, "2 images have the id 0"),
        (annotations("train") | {"categories": [RED, RED, GREEN]}, f"2 categories have the id {RED['id']}"),
    ],
)
def test_bad_annotations_are_named_in_one_line(coco: Path, document: Any, message: str) -> None:
    write(coco, "train", document)
    with pytest.raises(UserError, match=message) as raised:
        objects(loaded(coco))
    assert "\n" not in str(raised.value)
    assert "train2017" in str(raised.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.5 0.5 0.2", "'1 0.5 0.5 0.2' is not a class and four finite numbers"),
        ("1 0.5 nan 0.2 0.2", "four finite numbers"),
        ("green 0.5 0.5 0.2 0.2", "four finite numbers"),
        ("2 0.5 0.5 0.2 0.2", "class 2 is unknown; there are 2"),
        ("1 0.5 0.5 0 0.2", "a box without an area"),
        ("1 1.5 0.5 0.2 0.2", "lies outside its image of 20x10"),
    ],
)
def test_bad_labels_are_named_by_file_and_line(yolo: Path, line: str, message: str) -> None:
    (yolo / "labels" / "train" / "train1.txt").write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=rf"train1\.txt, line 2: .*{message}"):
        objects(loaded(yolo))


def test_labels_without_an_image_are_refused(yolo: Path) -> None:
    (yolo / "labels" / "val" / "lost.txt").touch()
    with pytest.raises(UserError, match=r"lost\.txt has no image"):
        loaded(yolo)


def test_a_broken_image_is_named(yolo: Path) -> None:
    (yolo / "images" / "train" / "train1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"train1\.png is not a readable image"):
        objects(loaded(yolo))


def test_other_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        loaded(tmp_path / "missing")
    with pytest.raises(UserError, match="no folder annotations or labels; expected"):
        loaded(tmp_path)


def test_names_are_needed_for_numbered_classes(yolo: Path) -> None:
    (yolo / "classes.txt").unlink()
    with pytest.raises(UserError, match=r"none of classes\.txt, coco\.names"):
        loaded(yolo)


def test_cropping_is_refused(coco: Path) -> None:
    with pytest.raises(UserError, match="--crop cuts objects off"):
        loaded(coco, TaskOptions(resize=64, crop=32))


@pytest.mark.data
def test_both_formats_of_coco8_are_read(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "detection" / "coco8"
    names = (data_dir / "detection" / "yolo_fastest" / "coco.names").read_text()
    for part in ("images", "labels"):
        (tmp_path / part).symlink_to(folder / part)
    (tmp_path / "coco.names").write_text(names)
    task = loaded(tmp_path, TaskOptions(resize=320, search_images=1))
    found = [truth for split in ("train", "search", "report") for truth in objects(task, split)]
    assert sum(len(truth.labels) for truth in found) == 30
    assert len(task.class_names) == 80
