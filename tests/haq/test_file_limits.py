"""Files that may come from anybody are read up to the limit of their kind, which SECURITY.md states."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import haq.file_limits
import hardware_sim.file_limits
from haq.errors import UserError
from haq.exporters.packed.reading import read_packed
from haq.file_limits import (
    ANNOTATIONS,
    BITS,
    CFG,
    CLASSES,
    IDX,
    JOURNAL,
    LABELS,
    PACKED_HEADER,
    POLICY,
    RUN_DOCUMENT,
    TEXT,
    read_text,
)
from haq.interchange.read import read_policy
from haq.network.models.darknet.cfg import read_cfg
from haq.policy import load_policy
from haq.runs.episode import Episode
from haq.runs.journal import Journal
from haq.runs.run_folder import CONFIG, RunFolder
from haq.tasks.classification.fashion_mnist import read_idx
from haq.tasks.classification.image_folder import read_class_names
from haq.tasks.detection.coco_annotations import read_document
from haq.tasks.detection.yolo_labels import read_labels
from haq.tasks.language_modelling.text import read_corpus
from hardware_sim.catalog import load_accelerator
from hardware_sim.file_limits import COST_TABLE, DEVICE, INSTRUCTION_TABLE, TARGET, FileKind
from hardware_sim.instruction_table import read_shapes
from hardware_sim.target_catalog import load_target

MODULES = (haq.file_limits, hardware_sim.file_limits)
KINDS = {kind for module in MODULES for kind in vars(module).values() if isinstance(kind, FileKind)}
SECURITY = (Path(__file__).resolve().parents[2] / "SECURITY.md").read_text(encoding="utf-8")


def corpus(path: Path) -> object:
    for name in ("valid.txt", "test.txt"):
        path.with_name(name).write_text("a b\n")
    return read_corpus(path.parent, level="word")


READERS: dict[str, tuple[FileKind, Callable[[Path], object]]] = {
    "policy.json": (POLICY, load_policy),
    "net.encodings": (BITS, lambda path: read_policy(path, (), model="net")),
    "net.cfg": (CFG, read_cfg),
    "train.txt": (TEXT, corpus),
    "instances.json": (ANNOTATIONS, read_document),
    "1.txt": (LABELS, lambda path: read_labels(path, (8, 8), num_classes=2)),
    "classes.txt": (CLASSES, read_class_names),
    "images-idx3-ubyte": (IDX, lambda path: read_idx(path, dimensions=3)),
    "config.json": (RUN_DOCUMENT, lambda path: RunFolder(path.parent).read_json(CONFIG)),
    "episodes.jsonl": (JOURNAL, lambda path: Journal(path, Episode).read(remedy="delete it")),
    "device.toml": (DEVICE, load_accelerator),
    "target.toml": (TARGET, load_target),
    "costs.csv": (COST_TABLE, load_accelerator),
    "shapes.csv": (INSTRUCTION_TABLE, read_shapes),
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_above_its_limit_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    kind, read = READERS[name]
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(kind.max_bytes + 1)  # takes no space on the disk
    with pytest.raises(ValueError, match="is larger than") as caught:
        read(path)
    assert f"{path} is larger than {kind.max_bytes // 2**20} MiB, the limit for a {kind.name}" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a device that can be read without end")
def test_a_file_without_a_size_is_read_up_to_the_limit() -> None:
    with pytest.raises(UserError, match="is larger than 1 MiB"):
        read_text(Path("/dev/zero"), CFG)


def test_a_packed_file_with_an_endless_header_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "packed.safetensors"
    path.write_bytes((PACKED_HEADER.max_bytes + 1).to_bytes(8, "little") + b"{}")
    with pytest.raises(UserError, match=f"longer than {PACKED_HEADER.max_bytes}"):
        read_packed(path)


def test_every_limit_is_stated() -> None:
    rows = re.findall(r"^\| (.+) \| (\d+) MiB \|$", SECURITY, flags=re.MULTILINE)
    stated = {name: int(size) for names, size in rows for name in re.sub(r" \([^)]*\)", "", names).split(", ")}
    assert stated == {kind.name: kind.max_bytes // 2**20 for kind in KINDS}
