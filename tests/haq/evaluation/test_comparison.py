"""What is counted when engines are compared: codes, ties, and what moved codes do."""

from dataclasses import replace
from math import inf

import pytest
import torch
from torch import Tensor, nn

from haq.config import search_config
from haq.costs.pricing import PricedLayers
from haq.evaluation.engines.comparison import EnginePair
from haq.evaluation.engines.moved_codes import MovedCodes
from haq.evaluation.engines.onnxruntime import OnnxEngine
from haq.evaluation.engines.torch import TorchEngine
from haq.experiment.near_budget import policies_near_budget
from haq.network.layers import trace
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from hardware_sim.catalog import load_accelerator

MIXED = ((2, 8, 3), (2, 8, 8))


class Small:
    """Two convolutions, one with a batch norm, and a linear layer, on random images."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model = nn.Sequential(
            nn.Conv2d(1, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32, 4),
        ).eval()
        for tensor in (*self.model.parameters(), self.model[1].running_mean):
            tensor.data.normal_(generator=generator).mul_(0.5)
        self.images = torch.randn(64, 1, 6, 6, generator=generator)
        self.trace = trace(self.model, self.images[:1])
        quantizers = Quantizers(self.model, self.trace, lambda: [self.images])
        self.quantized = QuantizedModel(self.model, self.trace, quantizers)
        self.reference = TorchEngine(self.quantized, self.images)
        self.engine = OnnxEngine(self.quantized, self.trace, self.images[:1], reference=self.reference, threads=1)
        self.engines = EnginePair(self.engine, self.reference, self.trace)


@pytest.fixture(scope="module")
def small() -> Small:
    return Small()


def test_codes_from_equal_inputs_are_equal_but_for_ties(small: Small, *, has_exact_kernels: bool) -> None:
    if not has_exact_kernels:
        pytest.skip("onnxruntime's kernels saturate on this processor")
    found = small.engines.compare(small.images, [MIXED])
    assert found.codes == 64 * (36 + 8 * 16 + 32)
    assert found.differing <= 0.001 * found.codes
    assert found.is_close


def test_biases_that_the_graph_rounds_are_no_difference(small: Small, *, has_exact_kernels: bool) -> None:
    """With 2 bits in, the bias is a whole number of coarse steps: many codes differ where torch has the exact one."""
    if not has_exact_kernels:
        pytest.skip("onnxruntime's kernels saturate on this processor")
    corrections = small.reference.corrections(MIXED)
    segments = small.engine.segments(MIXED, corrections)
    equal, _ = small.engines.compare_layers(MIXED, corrections, small.images)
    exact, _ = small.engines.compare_segments(segments, MIXED, corrections, small.images)
    assert exact.differing > equal.differing + 10


def test_a_layer_that_computes_otherwise_is_named(small: Small) -> None:
    corrections = small.reference.corrections(MIXED)
    segments = small.engine.segments(MIXED, corrections)
    biases = segments.corrections.biases
    shifted = replace(segments.corrections, biases={**biases, 1: biases[1] + 0.5})
    found, _ = small.engines.compare_segments(segments, MIXED, shifted, small.images)
    assert list(found.beyond) == ["6"]
    assert not found.is_close
    assert str(found).endswith(f"{found.beyond['6']:,} of them in 6")


def test_outputs_differ_by_parts_of_what_moved_codes_change(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    corrections = small.reference.corrections(MIXED)
    shares = {(layer, "input"): 0.01 for layer in range(3)}
    with torch.no_grad():
        expected = small.reference.corrected(MIXED, corrections)(small.images)
        moved = small.engines.moved(MIXED, shares)(small.images)
    apart = expected + 5 * (moved - expected)
    monkeypatch.setattr(OnnxEngine, "runner", lambda *_: lambda _inputs: apart)
    with torch.no_grad():
        found = small.engines.compare_outputs(MIXED, corrections, small.images, shares=shares)
    assert found.spread == pytest.approx(5, rel=1e-3)
    assert not found.is_close
    assert found.moved_predictions == int((moved.argmax(1) != expected.argmax(1)).sum())


def test_outputs_that_are_no_numbers_are_no_agreement(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxEngine, "runner", lambda *_: lambda inputs: torch.full((len(inputs), 4), torch.nan))
    found = small.engines.compare_outputs(MIXED, Corrections(), small.images, shares={})
    assert found.spread == inf
    assert not found.is_close


def test_codes_are_moved_by_one_step_within_their_range(small: Small) -> None:
    seen: list[tuple[Tensor, Tensor]] = []
    quantizer = small.quantized.quantizers.activation(1, 2)
    assert quantizer is not None

    class Watched(MovedCodes):
        def _moved(self, x: Tensor, *others: object) -> Tensor:
            moved = super()._moved(x, *others)  # type: ignore[arg-type]
            seen.append((x, moved))
            return moved

    model = Watched(small.quantized, small.trace, shares={(1, "input"): 0.1}, seed=0)
    model.set_bits((8, 8, 8), (8, 2, 8))
    with torch.no_grad():
        model(small.images)
    ((before, after),) = seen
    low, high = (end - quantizer.zero_point for end in (quantizer.q_min, quantizer.q_max))
    codes = [(x / quantizer.scale).round().clamp(low, high) for x in (before, after)]
    steps = (codes[1] - codes[0]).abs()
    assert steps.max() == 1
    assert 0.07 < steps.mean() < 0.11  # 0.1, but for places that are drawn twice


def test_no_share_moves_nothing(small: Small) -> None:
    model = MovedCodes(small.quantized, small.trace, shares={}, seed=0)
    for each in (model, small.quantized):
        each.set_bits(*MIXED)
        each.set_corrections(Corrections())
    with torch.no_grad():
        assert torch.equal(model(small.images), small.quantized(small.images))


def test_trial_policies_lie_at_the_budget_and_keep_what_is_pinned(small: Small) -> None:
    table = load_accelerator("bismo-edge").table(small.trace.layers)
    trace = small.trace
    priced = PricedLayers("small", trace.layers, trace.heads, trace.refused, table)
    config = search_config(budget=("5bits",), first_last_bits=8, min_bits=4)
    uniform, mixed = policies_near_budget(config, priced)
    assert uniform == ((8, 5, 8), (8, 5, 8))
    assert mixed == ((8, 5, 8), (8, 4, 8))
    free = search_config(budget=("5bits",), first_last_bits=None, objective="size", a_bits=6)
    assert policies_near_budget(free, priced) == [((5,) * 3, (6,) * 3), ((3, 5, 7), (6,) * 3)]
