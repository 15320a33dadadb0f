"""Contract of all tasks, and tasks that need real data."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from haq.errors import UserError
from haq.network.zoo import load_model
from haq.tasks import ClassificationTask, Task, TaskOptions, load_task
from haq.tasks.base import SplitName

SPLITS: tuple[SplitName, ...] = ("train", "calibration", "search", "selection", "report")


@pytest.fixture(params=["digits", "imagefolder"])
def task(request: pytest.FixtureRequest, tmp_path: Path) -> ClassificationTask:
    if request.param == "digits":
        return load_task("digits")
    generator = np.random.default_rng(0)
    for part in ("train", "val"):
        for name in ("left", "right"):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(7):
                pixels = generator.integers(256, size=(9, 12, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{number}.png")
    return load_task(f"imagefolder:{tmp_path}", options=TaskOptions(resize=8, crop=8))


def test_tasks_implement_protocol(task: Task) -> None:
    task.prepare()
    for split in SPLITS:
        batches = list(task.batches(split, batch_size=7))
        assert sum(len(targets) for _, targets in batches) == task.size(split) > 0
        again = list(task.batches(split, batch_size=7))
        assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(batches, again, strict=True))
    inputs, _ = next(task.batches("calibration", batch_size=1))
    assert torch.equal(task.example(), inputs)


def test_descriptions_are_json_with_sizes(task: Task) -> None:
    description = task.description()
    assert json.loads(json.dumps(description)) == description
    assert {name: facts["size"] for name, facts in description["splits"].items()} == {s: task.size(s) for s in SPLITS}


def test_splits_of_digits_share_no_image() -> None:
    task = load_task("digits")
    seen = {
        split: {inputs.numpy().tobytes() for inputs, _ in task.batches(split, batch_size=1)}
        for split in ("train", "search", "selection", "report")
    }
    # The data set holds no image twice, so that equal bytes would be a leak.
    assert sum(map(len, seen.values())) == len(set().union(*seen.values())) == 1797


def test_train_half_of_digits_does_not_depend_on_seed() -> None:
    first, other = (
        {
            inputs.numpy().tobytes()
            for inputs, _ in load_task("digits", options=TaskOptions(split_seed=seed)).batches("train", batch_size=1)
        }
        for seed in (0, 1)
    )
    assert first == other


@pytest.mark.parametrize("spec", ["digit", "ms_coco:somewhere/else", "", "cifar100:/data"])
def test_unknown_name_error_lists_names(spec: str) -> None:
    with pytest.raises(UserError, match=r"unknown data .*expected digits, cifar10:DIR"):
        load_task(spec)


@pytest.mark.parametrize("spec", ["imagefolder", "text", "text:", "text:?level=char"])
def test_data_without_a_folder_are_refused_with_their_form(spec: str) -> None:
    name = spec.partition(":")[0]
    with pytest.raises(UserError, match=f"'{re.escape(spec)}' names no folder; write {name}:DIR"):
        load_task(spec)


def test_digits_transform_cannot_be_changed() -> None:
    with pytest.raises(UserError, match="do not apply to digits"):
        load_task("digits", options=TaskOptions(normalize="half"))


@pytest.mark.data
def test_published_resnet_reaches_its_accuracy(data_dir: Path, tmp_path: Path) -> None:
    """Lossless images of CIFAR-10's train set in the binary layout: the network has learned these."""
    pack = np.load(data_dir / "cifar10_lossless4000" / "cifar10_train_first4000.npz")
    images, labels = pack["x"], pack["y"]
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    records = np.concatenate([labels[:, None].astype(np.uint8), planes], axis=1)
    for number in range(1, 6):
        records[:40].tofile(tmp_path / f"data_batch_{number}.bin")
    records[40:240].tofile(tmp_path / "test_batch.bin")
    task = load_task(f"cifar10:{tmp_path}")
    model = load_model("cifar_resnet20", weights=data_dir / "weights" / "cifar10_resnet20-12fca82f.th")
    metric = task.meter()
    with torch.no_grad():
        for inputs, targets in task.batches("report", batch_size=120):
            metric.update(model(inputs), targets)
    assert metric.compute() > 0.95
