"""`docs/devices.md` keeps in step with what device files may say."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import BaseModel

from hardware_sim.accelerator import Accelerator
from hardware_sim.catalog import KINDS, device_names, load_accelerator

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "devices.md").read_text(encoding="utf-8")
COMMON = {"kind", *Accelerator.model_fields}


def documented(heading: str) -> set[str]:
    """The keys in the first column of the table under a heading."""
    section = TEXT.split(f"### {heading}\n", 1)[1].split("\n#", 1)[0]
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return {key for row in rows for key in re.findall(r"`([^`]+)`", row)}


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every key of a device file, those within tables after a dot."""
    for name, field in model.model_fields.items():
        yield prefix + name
        for inner in tables(field.annotation):
            yield from keys(inner, f"{prefix}{name}.")


def tables(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from tables(part)


def test_keys_of_every_kind() -> None:
    assert documented("Every kind") == COMMON


@pytest.mark.parametrize("kind", KINDS)
def test_keys(kind: str) -> None:
    assert documented(f"Kind `{kind}`") == set(keys(KINDS[kind])) - COMMON


def test_devices_and_kinds_are_named() -> None:
    for name in device_names():
        assert f"`{name}`" in TEXT
    for kind in KINDS:
        assert f"**{kind}**" in TEXT


def test_examples_are_devices(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("layer,w_bits,a_bits,latency_s\na,8,8,1\n")
    np.save(tmp_path / "haq_mobilenetv2_bismo_cloud.npy", np.ones((53, 8, 8)))
    examples = re.findall(r"```toml\n(.*?)```", TEXT, flags=re.DOTALL)
    devices = [example for example in examples if example.startswith("kind = ")]
    assert len(devices) == 4
    for example in devices:
        path = tmp_path / "example.toml"
        path.write_text(example)
        load_accelerator(path)


def test_the_example_of_a_table_is_one(tmp_path: Path) -> None:
    lines = re.findall(r"^    (layer,.*|stem.*)$", TEXT, flags=re.MULTILINE)
    path = tmp_path / "table.csv"
    path.write_text("\n".join(lines) + "\n")
    assert load_accelerator(path).name == "table"
    assert len(lines) == 4
