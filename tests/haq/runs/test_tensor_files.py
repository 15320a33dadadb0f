"""Safetensors files: what is written is read back, a damaged file is one line."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from haq.errors import UserError
from haq.runs.tensor_files import load_metadata, load_tensors, save_tensors


def test_tensors_and_metadata_are_read_back(tmp_path: Path) -> None:
    tied = torch.arange(6.0).view(2, 3).t()
    save_tensors(tmp_path / "file", {"scale": tied, "again": tied}, metadata={"unit": "V"})
    loaded = load_tensors(tmp_path / "file")
    assert loaded is not None
    assert all(torch.equal(loaded[name], tied) for name in ("scale", "again"))
    assert load_metadata(tmp_path / "file") == {"unit": "V"}


def test_a_file_without_metadata_has_none(tmp_path: Path) -> None:
    save_tensors(tmp_path / "file", {})
    assert load_tensors(tmp_path / "file") == {}
    assert load_metadata(tmp_path / "file") == {}


def test_a_missing_file_has_no_tensors(tmp_path: Path) -> None:
    assert load_tensors(tmp_path / "file") is None


@pytest.mark.parametrize("load", [load_tensors, load_metadata])
def test_a_damaged_file_is_named(load: Callable[[Path], object], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"half")
    with pytest.raises(UserError, match="file is damaged: "):
        load(tmp_path / "file")
