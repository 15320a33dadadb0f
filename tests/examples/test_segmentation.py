"""The example of a task of one's own."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from haq.tasks.base import Task

FILE = Path(__file__).resolve().parents[2] / "examples" / "segmentation.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("segmentation", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_task_has_all_methods(example: ModuleType) -> None:
    assert isinstance(example.DiscTask(), Task)


def test_the_metric_is_the_overlap(example: ModuleType) -> None:
    meter = example.IntersectionOverUnion()
    logits = torch.tensor([[[[0.0, 0.0]], [[1.0, 1.0]]]])  # both pixels are found
    meter.update(logits, torch.tensor([[[1, 0]]]))
    assert meter.compute() == 0.5


def test_the_network_is_searched(example: ModuleType) -> None:
    summary = example.search(episodes=2).summary
    assert summary.metric.name == "IoU"
    assert summary.accuracy_fp32 > 0.8
    assert summary.cost_ratio <= 0.75
