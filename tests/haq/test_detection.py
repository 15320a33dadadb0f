"""Workflows on a detector."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import haq
from haq.exporters.verify import verify_artifact
from haq.tasks.detection.task import DetectionTask

SETTINGS: dict[str, Any] = {"objective": "size", "budget": 0.9, "episodes": 4, "agent": "random", "calibration": "max"}


@pytest.fixture(scope="module")
def searched(cells: DetectionTask, cell_net: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    out = tmp_path_factory.mktemp("detection") / "run"
    return haq.search(cell_net, cells, out=out, first_last_bits=None, **SETTINGS), out


def test_a_search_stores_average_precision(searched: tuple[Any, Path]) -> None:
    summary = searched[0].summary
    assert summary.metric.name == "ap"
    assert summary.accuracy_fp32 == pytest.approx(1.0)
    assert 0 <= summary.accuracy <= 1
    assert summary.interval is None
    assert (searched[1] / "policy.png").exists()


def test_a_run_is_evaluated(searched: tuple[Any, Path], cells: DetectionTask, cell_net: nn.Module) -> None:
    found = haq.evaluate(searched[1], model=cell_net, task=cells)
    assert found["accuracy"] == searched[0].summary.accuracy
    assert found["metric"] == {"name": "ap", "value": found["accuracy"]}
    assert found["accuracy"] <= found["details"]["ap50"] <= 1
    assert found["details_fp32"]["ap50"] == pytest.approx(1.0)
    assert not found["warnings"]


def test_a_detector_is_fine_tuned_with_its_boxes(cells: DetectionTask, cell_net: nn.Module) -> None:
    result = haq.finetune(cell_net, cells, policy=(4, 4), epochs=1, batch_size=16, augment="auto")
    assert result.summary.metric.name == "ap"
    assert all(parameter.isfinite().all() for parameter in result.network.parameters())


def test_a_detector_is_exported_and_verified(
    searched: tuple[Any, Path], cells: DetectionTask, cell_net: nn.Module, tmp_path: Path
) -> None:
    artifact = haq.load(searched[1], model=cell_net, task=cells)
    for file in ("net.onnx", "net.safetensors"):
        record = haq.export(artifact, "onnx" if file == "net.onnx" else "packed", out=tmp_path / file)
        assert record.outputs is not None
        assert record.outputs.same_predictions is not None
        assert record.outputs.same_predictions > 0.9
    (verified,) = verify_artifact(artifact, ["onnxruntime"], images=8).runtimes
    assert verified.score is not None
    assert verified.outputs is not None
    assert verified.outputs.same_predictions is not None


def test_no_objects_in_a_batch_have_a_finite_loss(cells: DetectionTask, cell_net: nn.Module) -> None:
    inputs, targets = next(cells.batches("report", batch_size=1))
    assert len(targets[0].labels) == 0
    assert torch.isfinite(cells.loss(cell_net(inputs), targets))
