"""Cache of exported graphs."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from haq.evaluation.engines.onnxruntime import marking, stored_export
from haq.network.layers import trace

EXAMPLE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Network whose last operation shows neither in its layers nor in its weights."""

    def __init__(self, sign: float = 1.0) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(216, 3))
        self.sign = sign

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.sign * self.body(x)
        return scores


class Exports:
    """Counter of exports."""

    def __init__(self) -> None:
        self.count = 0
        self._export = marking.export_marked

    def __call__(self, *args: object) -> onnx.ModelProto:
        self.count += 1
        return self._export(*args)  # type: ignore[arg-type]


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Exports:
    found = Exports()
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path))
    monkeypatch.setattr(marking, "export_marked", found)
    return found


def net(sign: float = 1.0) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Net(sign).eval()


def stored(model: nn.Module) -> bytes:
    content: bytes = stored_export.stored_export(model, trace(model, EXAMPLE), EXAMPLE).SerializeToString()
    return content


def test_second_export_is_read_from_cache(exports: Exports, tmp_path: Path) -> None:
    assert stored(net()) == stored(net())
    assert exports.count == 1
    (file,) = tmp_path.iterdir()
    weights = sum(parameter.numel() * 4 for parameter in net().parameters())
    assert weights > 3000
    assert b"held by the network" in file.read_bytes()


def test_changed_weights_are_exported_again(exports: Exports) -> None:
    stored(net())
    other = net()
    with torch.no_grad():
        other.get_parameter("body.4.bias")[0] += 1e-6
    stored(other)
    assert exports.count == 2


def test_network_with_other_outputs_is_exported_again(exports: Exports) -> None:
    first = stored(net())
    assert stored(net(sign=-1.0)) != first
    assert exports.count == 2


def test_damaged_cache_file_is_replaced(exports: Exports, tmp_path: Path) -> None:
    first = stored(net())
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert stored(net()) == first
    assert exports.count == 2
    assert stored(net()) == first
    assert exports.count == 2
