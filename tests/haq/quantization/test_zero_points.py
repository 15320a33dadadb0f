"""Zero points and GPTQ in torch, in the integer graph, and in the files of a run."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from haq.__main__ import main
from haq.config import search_config
from haq.evaluation.engines.comparison import EnginePair
from haq.evaluation.engines.onnxruntime import OnnxEngine, export_marked, lower, make_template
from haq.evaluation.engines.registry import comparison_policies
from haq.evaluation.engines.torch import TorchEngine
from haq.experiment.artifact import load_artifact
from haq.experiment.evaluate import evaluate_artifact
from haq.network.layers import trace
from haq.quantization import layer_weights, quantizers
from haq.quantization.options import QuantizerOptions
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers

IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0)) - 0.4


class Bottlenecks(nn.Module):
    """Padded convolutions whose inputs are SiLU, h-swish, LeakyReLU, a linear bottleneck and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.SiLU())
        self.narrow = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Hardswish(), nn.Conv2d(8, 4, 1))
        self.wide = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.LeakyReLU(0.1))
        self.last = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = y + self.wide(self.narrow(y))
        scores: Tensor = self.head(self.last(y).mean(dim=(2, 3)))
        return scores


class Built:
    def __init__(self, **options: Any) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.model = Bottlenecks().eval()
        self.trace = trace(self.model, IMAGES[:1])
        self.quantizers = Quantizers(self.model, self.trace, lambda: [IMAGES], QuantizerOptions(**options))
        self.quantized = QuantizedModel(self.model, self.trace, self.quantizers)

    def zero_points(self, bits: int) -> list[int]:
        found = [self.quantizers.activation(layer, bits) for layer in range(len(self.trace.layers))]
        return [each.zero_point for each in found if each is not None]


def test_skewed_layer_inputs_get_zero_points() -> None:
    """All convolutions except the first get zero points; images and pooled maps are symmetric enough."""
    assert all(Built().zero_points(4)[1:5])
    assert not any(Built(zero_points="none").zero_points(4))


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_unoptimized_graph_equals_torch(bits: int, rounding: str) -> None:
    """Zero padding has the code of the zero point. The last layer's bias is rounded to steps of its accumulator."""
    built = Built(rounding=rounding)
    policy = ((bits,) * len(built.trace.layers),) * 2
    template = make_template(export_marked(built.model, built.trace, IMAGES[:1]), built.trace)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    graph = lower(template, built.quantizers, policy).SerializeToString()
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: IMAGES.numpy()})
    built.quantized.set_bits(*policy)
    with torch.no_grad():
        expected = built.quantized(IMAGES).numpy()
    assert np.median(np.abs(found - expected)) < 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("rounding", ["nearest", "gptq"])
def test_integer_kernels_equal_torch(rounding: str, *, has_exact_kernels: bool) -> None:
    if not has_exact_kernels:
        pytest.skip("onnxruntime's kernels saturate on this processor")
    built = Built(rounding=rounding)
    reference = TorchEngine(built.quantized, IMAGES)
    engine = OnnxEngine(built.quantized, built.trace, IMAGES[:1], reference=reference, threads=1)
    policies = comparison_policies(len(built.trace.layers))
    assert EnginePair(engine, reference, built.trace).compare(IMAGES, policies).is_close


def test_zero_points_round_trip_through_file() -> None:
    built, again = Built(rounding="gptq"), Built()
    bits = [4] * len(built.trace.layers)
    again.quantizers.load(built.quantizers.tensors(bits, bits), bits, bits)
    assert again.zero_points(4) == built.zero_points(4)
    outputs = []
    for each in (built, again):
        each.quantized.set_bits(bits, bits)
        with torch.no_grad():
            outputs.append(each.quantized(IMAGES))
    assert torch.equal(*outputs)


def test_gptq_codes_are_evaluated_from_run_files(
    tmp_path: Path, small_flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert main(["search", *small_flags, "--rounding", "gptq", "--episodes", "3", "--out", str(run), "--quiet"]) == 0
    assert any(name.endswith(".weight.codes") for name in load_file(run / "quantizers.safetensors"))

    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is to be calibrated")

    for owner, name in (
        (quantizers, "calibrate"),
        (layer_weights, "weight_clips"),
    ):
        monkeypatch.setattr(owner, name, never)
    document = evaluate_artifact(load_artifact(run / "policy.json", search_config()))
    again = evaluate_artifact(load_artifact(run / "policy.json", search_config(rounding="gptq")))
    assert document == again
