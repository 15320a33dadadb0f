"""Example inputs of runs as files: tensors and structures of them."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from haq.errors import UserError
from haq.execution.structures import Structure, tensors
from haq.experiment.stored_example import load_example, save_example
from haq.runs.run_folder import EXAMPLE, RunFolder
from haq.runs.tensor_files import save_tensors


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


X, Y = torch.arange(6.0).reshape(1, 2, 3), torch.tensor([[4, 5]], dtype=torch.int16)


@pytest.mark.parametrize(
    "example", [X, Y, (X, Y), {"x": X, "mask": None, "scale": 0.5}, [X[0]], {"x": (X, [Y[0]]), 3: True}, Pair(X, Y)]
)
def test_structures_round_trip(example: Structure, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    save_example(run, example)
    loaded = load_example(run)
    assert all(a.equal(b) and a.dtype == b.dtype for a, b in zip(tensors(example), tensors(loaded), strict=True))
    assert describe(loaded) == describe(example)


def describe(part: Structure) -> Any:
    """The structure with shapes in place of tensors."""
    if isinstance(part, torch.Tensor):
        return list(part.shape)
    if isinstance(part, dict):
        return {key: describe(value) for key, value in part.items()}
    if isinstance(part, tuple | list):
        return ["tuple" if isinstance(part, tuple) else "list", *map(describe, part)]
    return part


def test_other_objects_are_not_kept(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    save_example(run, {"x": X, "callback": print})
    assert load_example(run) is None


@pytest.mark.parametrize(
    "description",
    ["", "3", "[]", "{}", '{"tensor": "other"}', '{"tensor": 3}', '{"tensor": []}', '{"dict": [[[], {"value": 1}]]}',
     '{"dict": 3}', '{"tuple": null}', '{"code": "x"}', '{"value": {}}', '{"value": 1}', '{"list": []}',
     '{"tuple": [' * 100_000, json.dumps({"list": [{"tensor": "input.0"}] * 2})],
)  # fmt: skip
def test_damaged_description_is_one_line(description: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    save_tensors(run.path / EXAMPLE, {"input.0": X}, metadata={"structure": description})
    with pytest.raises(UserError, match=r"example\.safetensors is damaged: it holds no input of one item"):
        load_example(run)


@pytest.mark.parametrize("example", [torch.zeros(()), torch.zeros(2, 3)])
def test_input_of_other_than_one_item_is_refused(example: torch.Tensor, tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    save_tensors(run.path / EXAMPLE, {"input": example})
    with pytest.raises(UserError, match="no input of one item"):
        load_example(run)
