"""Which engine is taken, and why."""

from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from haq.errors import UserError
from haq.evaluation.engines import registry
from haq.evaluation.engines.agreement import Agreement
from haq.evaluation.engines.comparison import EnginePair
from haq.evaluation.engines.onnxruntime import OnnxEngine
from haq.evaluation.engines.onnxruntime import lowering as lowering_module
from haq.evaluation.engines.onnxruntime.codes import Integers
from haq.evaluation.engines.registry import ENGINES, ComparisonData, EngineInputs, choose_engine, comparison_policies
from haq.evaluation.engines.torch import TorchEngine
from haq.execution.structures import Structure, item_count
from haq.network.layers import Trace, trace
from haq.network.models.digits_training import train_digits
from haq.policy import PolicyBits
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.settings import EngineName
from haq.tasks import load_task


class Digits:
    """The trained digits network on images that it has not seen."""

    def __init__(self) -> None:
        self.model = train_digits()
        self.images, _ = next(load_task("digits").batches("search", batch_size=128))
        calibration, _ = next(load_task("digits").batches("calibration", batch_size=64))
        self.trace: Trace = trace(self.model, self.images[:1])
        self.quantized = QuantizedModel(
            self.model, self.trace, Quantizers(self.model, self.trace, lambda: [calibration])
        )
        self.reference = TorchEngine(self.quantized, calibration)

    def choose(self, name: EngineName) -> tuple[str, str]:
        inputs = EngineInputs(
            quantized=self.quantized,
            trace=self.trace,
            reference=self.reference,
            comparison=ComparisonData(self.images),
        )
        choice = choose_engine(name, inputs)
        return choice.engine.name, choice.reason


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits()


@pytest.fixture(scope="module")
def engine(digits: Digits) -> OnnxEngine:
    return OnnxEngine(digits.quantized, digits.trace, digits.images[:1], reference=digits.reference, threads=1)


def test_onnxruntime_agrees_with_torch_on_real_images(
    digits: Digits, engine: OnnxEngine, *, has_exact_kernels: bool
) -> None:
    if not has_exact_kernels:
        pytest.skip("onnxruntime's kernels saturate on this processor")
    policies = comparison_policies(len(digits.trace.layers))
    found = EnginePair(engine, digits.reference, digits.trace).compare(digits.images, policies)
    assert found.is_close
    assert found.differing <= 1e-4 * found.codes
    assert found.other_predictions <= 0.01 * found.predictions


def test_the_same_policy_gives_the_same_bits_of_output(digits: Digits, engine: OnnxEngine) -> None:
    eight, four, *_ = comparison_policies(len(digits.trace.layers))
    first = engine.runner(eight)(digits.images)
    assert not torch.equal(engine.runner(four)(digits.images), first)
    assert torch.equal(engine.runner(eight)(digits.images), first)


def test_any_number_of_images_in_any_memory_format(digits: Digits, engine: OnnxEngine) -> None:
    network = engine.runner(None)
    images = digits.images[:5].contiguous(memory_format=torch.channels_last)
    assert torch.allclose(network(images), network(digits.images)[:5], atol=1e-5)


def test_a_session_that_fails_later_is_an_error_of_one_line(digits: Digits, engine: OnnxEngine) -> None:
    network = engine.runner(None)
    with pytest.raises(UserError, match=r"batch of 3: .*; use --engine torch$") as caught:
        network(digits.images[:3, :, :8])
    assert "\n" not in str(caught.value)


def test_stored_corrections_are_used(digits: Digits, engine: OnnxEngine) -> None:
    bits = comparison_policies(len(digits.trace.layers))[2]
    corrected = engine.runner(bits)(digits.images)
    assert engine.images_per_policy == 64
    other = TorchEngine(digits.quantized, digits.images[:8])
    fresh = OnnxEngine(digits.quantized, digits.trace, digits.images[:1], reference=other, threads=1)
    assert not torch.equal(fresh.runner(bits)(digits.images), corrected)
    fresh.store(bits, engine.corrections(bits))
    assert torch.equal(fresh.runner(bits)(digits.images), corrected)


def test_engines_are_compared_on_as_many_values_as_are_set(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[int, int, int]] = []
    compare = EnginePair.compare

    def recorded(pair: EnginePair, inputs: Structure, policies: list[PolicyBits]) -> Agreement:
        corrected = pair.onnxruntime.images_per_policy, pair.reference.images_per_policy
        compared.append((item_count(inputs), *corrected))
        return compare(pair, inputs, policies)

    monkeypatch.setattr(EnginePair, "compare", recorded)
    digits.choose("onnxruntime")
    monkeypatch.setattr(registry, "COMPARISON_VALUES", 5 * digits.images[0].numel())
    digits.choose("onnxruntime")
    assert compared == [(128, 64, 64), (5, 5, 5)]
    assert digits.reference.images_per_policy == 64


def test_auto_takes_onnxruntime_where_it_agrees(digits: Digits, *, has_exact_kernels: bool) -> None:
    name, reason = digits.choose("auto")
    assert name == "onnxruntime" or not has_exact_kernels
    assert (
        not has_exact_kernels
        or "codes from equal inputs and biases are those of torch in every layer but for" in reason
    )


def test_torch_can_be_asked_for(digits: Digits) -> None:
    assert digits.choose("torch") == ("torch", "torch was asked for")


def test_auto_takes_torch_where_kernels_saturate(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = lowering_module.integer_weight

    def saturating(*arguments: Any) -> Integers:
        weight = honest(*arguments)
        return Integers(weight.codes.clip(-100, 100), weight.scale, weight.axis)

    monkeypatch.setattr(lowering_module, "integer_weight", saturating)
    name, reason = digits.choose("auto")
    assert name == "torch"
    assert reason.startswith("torch, since onnxruntime computes different results on this machine: ")
    assert "codes differ from torch by more than ties from equal inputs" in reason
    assert digits.choose("onnxruntime")[0] == "onnxruntime"


def test_auto_takes_torch_where_only_outputs_differ(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = OnnxEngine.runner

    def clamped(self: OnnxEngine, bits: PolicyBits | None) -> Callable[[Tensor], Tensor]:
        network = honest(self, bits)
        return lambda inputs: network(inputs).clamp(max=0.5)

    monkeypatch.setattr(OnnxEngine, "runner", clamped)
    name, reason = digits.choose("auto")
    assert name == "torch"
    assert reason.startswith("torch, since onnxruntime computes different results on this machine")
    assert digits.choose("onnxruntime")[0] == "onnxruntime"


def engine_inputs(quantized: QuantizedModel, traced: Trace, data: ComparisonData) -> EngineInputs:
    return EngineInputs(quantized=quantized, trace=traced, reference=TorchEngine(quantized), comparison=data)


def test_every_engine_of_the_command_line_is_registered() -> None:
    assert {*get_args(EngineName)} - {"auto"} <= {*ENGINES}


class Branching(nn.Module):
    """Cannot be exported: what it does depends on its data."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear(x)
        return y if y.sum() > 0 else -y


def test_auto_takes_torch_for_a_network_that_does_not_export() -> None:
    model, images = Branching().eval(), torch.ones(3, 4)
    traced = trace(model, images[:1])
    quantized = QuantizedModel(model, traced, Quantizers(model, traced, lambda: [images]))
    inputs = engine_inputs(quantized, traced, ComparisonData(images))
    choice = choose_engine("auto", inputs)
    assert choice.engine.name == "torch"
    assert choice.reason.startswith("torch, since the network has no ONNX graph: ")
    with pytest.raises(UserError, match=r"--engine onnxruntime: .*; use --engine torch$"):
        choose_engine("onnxruntime", inputs)


class OneByOne(nn.Module):
    """Exports with the size of the batch as a number, since it goes over the items in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.stack([item / item.norm() for item in self.first(x)]))
        return y


def test_auto_takes_torch_where_a_session_fails_on_another_batch() -> None:
    model, images = OneByOne().eval(), torch.rand(5, 4)
    traced = trace(model, images[:1])
    quantized = QuantizedModel(model, traced, Quantizers(model, traced, lambda: [images]))
    inputs = engine_inputs(quantized, traced, ComparisonData(images[:2], batches=[5]))
    choice = choose_engine("auto", inputs)
    assert choice.engine.name == "torch"
    assert choice.reason.startswith("torch, since onnxruntime does not run the network on a batch of 5: ")
    with pytest.raises(UserError, match=r"--engine onnxruntime: .*; use --engine torch$") as caught:
        choose_engine("onnxruntime", inputs)
    assert "\n" not in str(caught.value)
