"""Which engine is taken, and how two of them are compared."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from haq.corrections import Corrections
from haq.engines import EngineName, agreement, choose_engine, trial_policies
from haq.errors import UserError
from haq.evaluation.protocols import PolicyBits
from haq.evaluation.torch_engine import TorchEngine
from haq.integer_graph import OnnxEngine
from haq.layers import Trace, trace
from haq.models.digits_training import train_digits
from haq.quantized_model import QuantizedModel, Quantizers
from haq.tasks import load_task


@dataclass
class Fixed:
    """An engine that answers any policy with the same outputs."""

    quantized: Tensor
    floats: Tensor
    name: str = "fixed"
    images_a_policy: int = 0

    def outputs(self, bits: PolicyBits | None) -> Callable[[Tensor], Tensor]:
        return lambda _: self.floats if bits is None else self.quantized

    def corrections(self, bits: PolicyBits) -> Corrections:
        raise NotImplementedError

    def store(self, bits: PolicyBits, corrections: Corrections) -> None:
        raise NotImplementedError


def test_agreement_by_hand() -> None:
    floats = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    reference = Fixed(torch.tensor([[4.0, 0.0], [0.0, 5.0]]), floats)
    engine = Fixed(torch.tensor([[4.0, 0.0], [6.0, 5.0]]), floats)
    found = agreement(engine, reference, inputs=torch.zeros(2, 1), policies=trial_policies(1)[:2])
    assert (found.predictions, found.differing) == (4, 2)
    assert found.max_relative_difference == pytest.approx(6 / 5)
    assert found.error_ratio == pytest.approx(6 / 5)  # 6 beside changes of 3 and 4
    assert found.is_close
    assert "2 of 4 predictions differ" in str(found)


def test_a_difference_where_quantization_changes_nothing_is_no_rounding() -> None:
    floats = torch.ones(1, 2)
    found = agreement(
        Fixed(2 * floats, floats), Fixed(floats, floats), inputs=torch.zeros(1, 1), policies=trial_policies(1)
    )
    assert not found.is_close


def test_rounding_in_float_is_no_disagreement_where_quantization_changes_nothing() -> None:
    floats = torch.ones(1, 2)
    engine, reference = Fixed(floats * (1 + 1e-6), floats), Fixed(floats, floats)
    assert agreement(engine, reference, inputs=torch.zeros(1, 1), policies=trial_policies(1)).is_close


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
        choice = choose_engine(name, self.quantized, self.trace, reference=self.reference, inputs=self.images)
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
    policies = trial_policies(len(digits.trace.layers))
    found = agreement(engine, digits.reference, inputs=digits.images, policies=policies)
    assert found.is_close
    assert found.differing <= 0.01 * found.predictions


def test_the_same_policy_gives_the_same_bits_of_output(digits: Digits, engine: OnnxEngine) -> None:
    eight, four, *_ = trial_policies(len(digits.trace.layers))[::2]
    first = engine.outputs(eight)(digits.images)
    assert not torch.equal(engine.outputs(four)(digits.images), first)
    assert torch.equal(engine.outputs(eight)(digits.images), first)


def test_any_number_of_images_in_any_memory_format(digits: Digits, engine: OnnxEngine) -> None:
    network = engine.outputs(None)
    images = digits.images[:5].contiguous(memory_format=torch.channels_last)
    assert torch.allclose(network(images), network(digits.images)[:5], atol=1e-5)


def test_stored_corrections_are_used(digits: Digits, engine: OnnxEngine) -> None:
    bits = trial_policies(len(digits.trace.layers))[2]
    corrected = engine.outputs(bits)(digits.images)
    assert engine.images_a_policy == 64
    other = TorchEngine(digits.quantized, digits.images[:8])
    fresh = OnnxEngine(digits.quantized, digits.trace, digits.images[:1], reference=other, threads=1)
    assert not torch.equal(fresh.outputs(bits)(digits.images), corrected)
    fresh.store(bits, engine.corrections(bits))
    assert torch.equal(fresh.outputs(bits)(digits.images), corrected)


def test_auto_takes_onnxruntime_where_it_agrees(digits: Digits, *, has_exact_kernels: bool) -> None:
    name, reason = digits.choose("auto")
    assert name == "onnxruntime" or not has_exact_kernels
    assert "predictions differ" in reason


def test_torch_can_be_asked_for(digits: Digits) -> None:
    assert digits.choose("torch") == ("torch", "torch was asked for")


def test_auto_takes_torch_where_the_engines_disagree(digits: Digits, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = OnnxEngine.outputs

    def saturating(self: OnnxEngine, bits: PolicyBits | None) -> Callable[[Tensor], Tensor]:
        network = honest(self, bits)
        return lambda inputs: network(inputs).clamp(max=0.5)

    monkeypatch.setattr(OnnxEngine, "outputs", saturating)
    name, reason = digits.choose("auto")
    assert name == "torch"
    assert reason.startswith("torch, since onnxruntime computes otherwise on this machine")
    assert digits.choose("onnxruntime")[0] == "onnxruntime"


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
    choice = choose_engine("auto", quantized, traced, reference=TorchEngine(quantized), inputs=images)
    assert choice.engine.name == "torch"
    assert choice.reason.startswith("torch, since the network has no ONNX graph: ")
    with pytest.raises(UserError, match=r"--engine onnxruntime: .*; use --engine torch$"):
        choose_engine("onnxruntime", quantized, traced, reference=TorchEngine(quantized), inputs=images)


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
    choice = choose_engine("auto", quantized, traced, reference=TorchEngine(quantized), inputs=images)
    assert choice.engine.name == "torch"
    assert choice.reason.startswith("torch, since onnxruntime does not run the network on a batch of 5: ")
    with pytest.raises(UserError, match=r"--engine onnxruntime: .*; use --engine torch$") as caught:
        choose_engine("onnxruntime", quantized, traced, reference=TorchEngine(quantized), inputs=images)
    assert "\n" not in str(caught.value)
