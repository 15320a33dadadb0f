"""What Python callers may hand to the functions of `import haq`, and what these warn of."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

import haq
from haq.errors import HaqWarning
from haq.tasks.classification import ClassificationTask

SPLITS = ("calibration", "search", "report")


def loaders(task: ClassificationTask) -> dict[str, object]:
    """The splits of a task as loaders, and one to train on."""
    found: dict[str, object] = {name: DataLoader(task.splits[name].items, batch_size=8) for name in SPLITS}  # type: ignore[index,arg-type]
    return found | {"train": task.splits["calibration"].items}


def test_every_function_takes_a_mapping_of_loaders(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    data = loaders(tiny_task)
    found = haq.search(
        tiny_net, data, budget={"latency": 0.9, "size": 0.9}, episodes=2, agent="uniform", engine="torch"
    )
    assert [each.objective for each in found.summary.budget] == ["latency", "size"]
    assert found.summary.report_images == 40
    learned = haq.reconstruct(tiny_net, data, policy=(8, 8), steps=2, engine="torch")
    assert learned.summary.report_images == 40
    trained = haq.finetune(tiny_net, data, policy=(8, 8), epochs=1)
    assert trained.summary.train_images == 40


def test_warnings_reach_python_callers(tiny_net: nn.Module, tiny_task: ClassificationTask, tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in tiny_net.parameters():
            parameter.zero_()
    settings = {"budget": 0.9, "episodes": 1, "agent": "uniform", "engine": "torch", "out": tmp_path / "run"}
    with pytest.warns(HaqWarning, match="no better than guessing") as caught:
        haq.search(tiny_net, tiny_task, **settings)  # type: ignore[arg-type]
    assert {Path(each.filename).name for each in caught} == {"test_python_api.py"}


def test_a_good_network_warns_of_nothing(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", HaqWarning)
        haq.search(tiny_net, tiny_task, budget=0.9, episodes=1, agent="uniform", engine="torch")
