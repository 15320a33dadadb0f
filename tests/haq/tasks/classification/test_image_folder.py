import re
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from haq.errors import UserError
from haq.tasks import TaskOptions, load_task
from haq.tasks.classification import chance_warning
from haq.tasks.classification.image_folder import SUFFIXES, read_image
from haq.tasks.transforms import ImageTransform

SMALL = TaskOptions(resize=8, crop=8, search_images=4)


def write_image(path: Path, *, red: int, size: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((size, size, 3), dtype=np.uint8)
    pixels[..., 0] = red
    Image.fromarray(pixels).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes; the shade of red tells the class: 0 ant, 100 bee, 200 cat."""
    for part, count in (("train", 4), ("val", 3)):
        for red, name in ((0, "ant"), (100, "bee"), (200, "cat")):
            for number in range(count):
                write_image(tmp_path / part / name / f"{number}.png", red=red)
    return tmp_path


def reds(folder: Path, split: str = "report") -> set[tuple[int, int]]:
    """Pairs of shade and label."""
    task = load_task(f"imagefolder:{folder}", options=TaskOptions(resize=8, crop=8, search_images=4, normalize="none"))
    inputs, targets = next(task.batches(split, batch_size=99))  # type: ignore[arg-type]
    return {(round(float(image[0, 0, 0]) * 255), int(label)) for image, label in zip(inputs, targets, strict=True)}


def test_labels_follow_sorted_folder_names(folder: Path) -> None:
    assert reds(folder) == reds(folder, "train") == {(0, 0), (100, 1), (200, 2)}


def test_labels_follow_classes_txt(folder: Path) -> None:
    (folder / "classes.txt").write_text("cat\ndog\n\nbee\nant\n")
    assert reds(folder) == {(0, 3), (100, 2), (200, 0)}
    task = load_task(f"imagefolder:{folder}", options=SMALL)
    assert task.num_classes == 4
    assert task.description()["class_names"] == ["cat", "dog", "bee", "ant"]


def test_sizes_and_shapes(folder: Path) -> None:
    task = load_task(f"imagefolder:{folder}", options=SMALL)
    assert [task.size(split) for split in ("train", "calibration", "search", "report")] == [12, 12, 4, 5]
    assert task.example().shape == (1, 3, 8, 8)
    inputs, _ = next(task.batches("search", batch_size=4))
    assert inputs.is_contiguous(memory_format=torch.channels_last)


def test_other_files_are_skipped(folder: Path) -> None:
    for name in ("._0.png", "notes.txt", "Thumbs.db"):
        (folder / "val" / "ant" / name).write_text("no image")
    (folder / "val" / ".hidden").mkdir()
    load_task(f"imagefolder:{folder}", options=SMALL).prepare()


@pytest.mark.parametrize("damage", [b"", b"not an image", None])
def test_corrupt_image_raises_in_prepare(folder: Path, damage: bytes | None) -> None:
    path = folder / "val" / "bee" / "1.png"
    path.write_bytes(path.read_bytes()[:-30] if damage is None else damage)
    task = load_task(f"imagefolder:{folder}", options=SMALL)
    with pytest.raises(UserError, match=r"val/bee/1\.png is not a readable image") as caught:
        task.prepare()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_images_of_every_format_raise_one_line_error(suffix: str, tmp_path: Path) -> None:
    path, generator = tmp_path / f"image{suffix}", np.random.default_rng(0)
    Image.fromarray(generator.integers(256, size=(9, 7, 3), dtype=np.uint8)).save(path)
    whole = path.read_bytes()
    assert read_image(path, ImageTransform()).shape == (3, 9, 7)
    damaged = [whole[:length] for length in range(0, len(whole), len(whole) // 16)]
    for _ in range(32):
        content = bytearray(whole)
        content[generator.integers(min(len(content), 64))] = generator.integers(256)
        damaged.append(bytes(content))
    for content in damaged:
        path.write_bytes(content)
        with suppress(UserError):
            read_image(path, ImageTransform())
    path.write_bytes(whole[:20])
    with pytest.raises(UserError, match=re.escape(f"{path} is not a readable image")):
        read_image(path, ImageTransform())


@pytest.mark.parametrize("kind", ["ICO", "PCX", "TGA", "JPEG2000"])
def test_unlisted_formats_are_not_opened(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.new("RGB", (32, 32)).save(path, format=kind)
    with pytest.raises(UserError, match=r"image\.png is not a readable image"):
        read_image(path, ImageTransform())


def test_image_of_too_many_pixels_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (9000, 8000)).save(tmp_path / "image.png")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda _: pytest.fail("decoded"))
    with pytest.raises(UserError, match="9000x8000 pixels; up to 64 million are read"):
        read_image(tmp_path / "image.png", ImageTransform())


def test_failing_transform_error_names_image(tmp_path: Path) -> None:
    def own(_: Image.Image) -> Tensor:
        raise RuntimeError("only\nportraits")

    write_image(tmp_path / "image.png", red=1, size=4)
    with pytest.raises(UserError, match=r"image\.png cannot be transformed \(RuntimeError: only portraits\)"):
        read_image(tmp_path / "image.png", own)
    with pytest.raises(UserError, match=r"image\.png: an image of 4x4 is smaller than the crop of 8"):
        read_image(tmp_path / "image.png", ImageTransform(crop=8))


def test_many_corrupt_images_are_counted(folder: Path) -> None:
    for path in (folder / "val").rglob("*.png"):
        path.write_bytes(b"not an image")
    task = load_task(f"imagefolder:{folder}", options=SMALL)
    with pytest.raises(UserError, match=r"is not a readable image .*; 4 of 4 items cannot be used") as caught:
        task.prepare()
    assert "\n" not in str(caught.value)


def test_a_folder_that_vanished_after_it_was_listed_is_a_line(folder: Path) -> None:
    task = load_task(f"imagefolder:{folder}", options=SMALL)
    (folder / "val").rename(folder / "elsewhere")
    with pytest.raises(
        UserError, match=r"\.png was there when its folder was read and is missing now.* cannot be used"
    ):
        task.prepare()


def test_images_of_any_size_are_resized(folder: Path) -> None:
    for number, path in enumerate(sorted((folder / "val").rglob("*.png"))):
        write_image(path, red=50, size=6 + 3 * number)
    task = load_task(f"imagefolder:{folder}", options=SMALL)
    task.prepare()
    assert next(task.batches("report", batch_size=9))[0].shape == (5, 3, 8, 8)


def test_images_of_other_size_raise(folder: Path) -> None:
    for number in range(4):
        write_image(folder / "train" / "ant" / f"{number}.png", red=0, size=16)
    task = load_task(f"cifar10:{folder}", options=TaskOptions(search_images=4))
    with pytest.raises(UserError, match=r"has shape .*give --resize and --crop"):
        task.prepare()


def remove(path: Path) -> None:
    for child in path.iterdir() if path.is_dir() else ():
        remove(child)
    path.rmdir() if path.is_dir() else path.unlink()


def test_wrong_layout_error_says_what_is_expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    empty = tmp_path_factory.mktemp("empty")
    for spec, message in (
        (f"{folder}/absent", "absent does not exist; give a folder"),
        (f"{folder}/val/ant/0.png", "is a file; give a folder"),
        (f"{empty}", r"is empty; expected train/<class>/"),
        (f"{folder}/val", r"has no folder train; expected train/<class>/"),
    ):
        with pytest.raises(UserError, match=message):
            load_task(f"imagefolder:{spec}")


def test_folder_without_classes_raises(folder: Path) -> None:
    remove(folder / "val")
    (folder / "val").mkdir()
    with pytest.raises(UserError, match="val has no class folders"):
        load_task(f"imagefolder:{folder}")


def test_one_class_raises(folder: Path) -> None:
    remove(folder / "val" / "ant")
    remove(folder / "val" / "cat")
    with pytest.raises(UserError, match="val has one class only, 'bee'"):
        load_task(f"imagefolder:{folder}")


def test_empty_class_folder_raises(folder: Path) -> None:
    (folder / "train" / "dog").mkdir()
    with pytest.raises(UserError, match="train/dog holds no images"):
        load_task(f"imagefolder:{folder}")


def test_class_in_one_part_only_needs_classes_txt(folder: Path) -> None:
    remove(folder / "val" / "bee")
    with pytest.raises(UserError, match=r"class 'bee' is in only one of train and val .*classes\.txt"):
        load_task(f"imagefolder:{folder}")
    (folder / "classes.txt").write_text("ant\nbee\ncat\n")
    assert reds(folder) <= {(0, 0), (200, 2)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ant\ncat\n", r"folder .*train/bee is not in .*classes\.txt \(1 of 3 are not\)"),
        ("ant\nbee\ncat\nbee\n", "names class 'bee' more than once"),
        ("", r"train/ant is not in .*\(3 of 3"),
    ],
)
def test_classes_txt_must_match_folders(folder: Path, text: str, message: str) -> None:
    (folder / "classes.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        load_task(f"imagefolder:{folder}")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ant", "bee", "cat", "dog"], "has 3 outputs and imagefolder:.* has 4 classes; .*classes.txt"),
        (["cat", "bee", "ant"], None),
    ],
)
def test_number_of_outputs_must_equal_number_of_classes(folder: Path, names: list[str], message: str | None) -> None:
    (folder / "classes.txt").write_text("\n".join(names))
    task = load_task(f"imagefolder:{folder}", options=SMALL)
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 3))
    with pytest.raises(UserError, match=message) if message else nullcontext():
        task.validate(network)


def test_outputs_in_wrong_order_give_chance_accuracy(folder: Path) -> None:
    class Shade(nn.Module):
        """Knows the classes by their red, in the order of the folder names."""

        def forward(self, x: Tensor) -> Tensor:
            red = x[:, 0].mean(dim=(1, 2), keepdim=False)[:, None]
            return -(red - torch.tensor([0.0, 100.0, 200.0]) / 255).abs()

    def warning() -> str | None:
        options = TaskOptions(resize=8, crop=8, search_images=4, normalize="none")
        task = load_task(f"imagefolder:{folder}", options=options)
        metric = task.meter()
        for split in ("search", "report"):
            for inputs, targets in task.batches(split, batch_size=9):  # type: ignore[arg-type]
                metric.update(Shade()(inputs), targets)
        return chance_warning(metric.compute(), task.num_classes, metric.count)

    assert warning() is None
    (folder / "classes.txt").write_text("bee\ncat\nant\n")
    assert "are the classes in the order of its outputs" in (warning() or "")


def test_classes_txt_must_be_text(folder: Path) -> None:
    (folder / "classes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is no text"):
        load_task(f"imagefolder:{folder}")
