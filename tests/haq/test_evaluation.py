"""Accuracy and divergence of a policy, each policy once, and what is counted."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from haq.corrections import Corrections
from haq.errors import UserError
from haq.evaluation import Evaluation, Evaluator, PolicyBits
from haq.layers import trace
from haq.quantized_model import QuantizedModel, Quantizers
from haq.tasks.classification import ClassificationTask
from haq.torch_engine import TorchEngine


class Scripted:
    """An engine whose float network answers log-probabilities, and each policy others."""

    name = "scripted"
    images_a_policy = 7

    def __init__(self, float_outputs: Tensor, policy_outputs: Tensor) -> None:
        self.float_outputs, self.policy_outputs, self.runs = float_outputs, policy_outputs, 0

    def outputs(self, bits: PolicyBits | None) -> Callable[[Tensor], Tensor]:
        self.runs += 1
        row = self.float_outputs if bits is None else self.policy_outputs
        return lambda inputs: row.expand(len(inputs), -1)

    def corrections(self, bits: PolicyBits) -> Corrections:
        raise NotImplementedError

    def store(self, bits: PolicyBits, corrections: Corrections) -> None:
        raise NotImplementedError


def scripted(task: ClassificationTask, **options: Any) -> tuple[Scripted, Evaluator]:
    float_row, policy_row = (torch.tensor([row]).log() for row in ([0.7, 0.1, 0.1, 0.1], [0.4, 0.2, 0.2, 0.2]))
    engine = Scripted(float_row, policy_row)
    return engine, Evaluator(engine, task, "search", **options)


@pytest.mark.parametrize("batch_size", [1, 16, 40, 256])
def test_accuracy_and_divergence_by_hand(tiny_task: ClassificationTask, batch_size: int) -> None:
    _, evaluator = scripted(tiny_task, batch_size=batch_size)
    zeros = tiny_task.splits["search"].take(torch.arange(40))[1].eq(0).float().mean().item()
    found = evaluator.evaluate([4], [4])
    assert evaluator.accuracy_fp32 == found.accuracy == pytest.approx(zeros)
    # 0.7 ln(0.7 / 0.4) + 3 * 0.1 ln(0.1 / 0.2) for every image
    assert found.divergence == pytest.approx(0.7 * 0.5596157879 - 0.3 * 0.6931471806, rel=1e-5)


def test_a_policy_is_run_once(tiny_task: ClassificationTask) -> None:
    engine, evaluator = scripted(tiny_task)
    assert (evaluator.evaluations, evaluator.forward_images, engine.runs) == (0, 47, 1)
    first = evaluator.evaluate([4], [4])
    assert evaluator.evaluate((4,), (4,)) is first
    assert (evaluator.evaluations, evaluator.forward_images, engine.runs) == (1, 94, 2)
    evaluator.evaluate([4], [5])
    assert (evaluator.evaluations, evaluator.forward_images, engine.runs) == (2, 141, 3)


def test_what_an_earlier_session_found_is_given_without_running_and_counted(tiny_task: ClassificationTask) -> None:
    engine, evaluator = scripted(tiny_task)
    evaluator.recall([4], [4], Evaluation(0.5, 0.25))
    assert (evaluator.evaluations, evaluator.forward_images) == (0, 47)
    assert evaluator.evaluate([4], [4]) == Evaluation(0.5, 0.25)
    assert evaluator.evaluate([4], [4]) == Evaluation(0.5, 0.25)
    assert (evaluator.evaluations, evaluator.forward_images, engine.runs) == (1, 94, 1)


def test_what_was_counted_before_is_not_counted_again(tiny_task: ClassificationTask) -> None:
    engine, evaluator = scripted(tiny_task)
    evaluator.recall([4], [4], Evaluation(0.5, 0.25))
    evaluator.resume(evaluations=11, forward_images=500)
    evaluator.evaluate([4], [4])
    assert (evaluator.evaluations, evaluator.forward_images, engine.runs) == (11, 500, 1)


def test_a_split_that_the_task_lacks_is_refused(tiny_task: ClassificationTask) -> None:
    with pytest.raises(ValueError, match="blobs has no train split"):
        Evaluator(Scripted(torch.zeros(1, 4), torch.zeros(1, 4)), tiny_task, "train")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_float_network_without_finite_outputs_is_refused(tiny_task: ClassificationTask, bad: float) -> None:
    with pytest.raises(UserError, match="float network's outputs on the search split hold NaN or infinity"):
        Evaluator(Scripted(torch.tensor([[0.0, bad, 0.0, 0.0]]), torch.zeros(1, 4)), tiny_task, "search")


def torch_engine(net: nn.Module, task: ClassificationTask, images: Tensor | None = None) -> TorchEngine:
    traced = trace(net, task.example())
    batches = [task.splits["calibration"].take(torch.arange(40))[0]]
    return TorchEngine(QuantizedModel(net, traced, Quantizers(net, traced, lambda: batches)), images)


def test_a_policy_in_float_costs_nothing(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    net = tiny_net.eval()
    images = tiny_task.splits["calibration"].take(torch.arange(16))[0]
    for engine in (torch_engine(net, tiny_task), torch_engine(net, tiny_task, images)):
        evaluator = Evaluator(engine, tiny_task, "search")
        assert evaluator.accuracy_fp32 == 1.0
        assert evaluator.evaluate([None] * 3, [None] * 3) == Evaluation(1.0, 0.0)
        assert evaluator.evaluate([1] * 3, [1] * 3).divergence > 0.05


def test_one_policy_does_not_colour_the_next(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    net = tiny_net.eval()
    images = tiny_task.splits["calibration"].take(torch.arange(16))[0]
    engine = torch_engine(net, tiny_task, images)
    first, other = ((2, 3, 4), (4, 3, 2)), ((8, 2, 8), (2, 8, 2))
    x = tiny_task.splits["search"].take(torch.arange(40))[0]
    with torch.no_grad():
        expected = engine.outputs(first)(x)
        engine.outputs(other)(x)
        assert torch.equal(engine.outputs(None)(x), net(x))
        assert torch.equal(engine.outputs(first)(x), expected)


def test_stored_corrections_take_the_place_of_found_ones(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    images = tiny_task.splits["calibration"].take(torch.arange(16))[0]
    engine = torch_engine(tiny_net.eval(), tiny_task, images)
    bits = ((2, 2, 2), (2, 2, 2))
    found = engine.corrections(bits)
    assert set(found.biases) == {1, 2}  # the first layer has a batch norm behind it
    engine.store(bits, Corrections())
    assert not engine.corrections(bits).biases
    assert engine.corrections(((3, 3, 3), (2, 2, 2))).biases


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_inputs_and_outputs_go_where_the_network_is(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    net = tiny_net.eval().cuda()
    traced = trace(net, tiny_task.example().cuda())
    images = tiny_task.splits["calibration"].take(torch.arange(40))[0]
    quantizers = Quantizers(net, traced, lambda: [images.cuda()])
    engine = TorchEngine(QuantizedModel(net, traced, quantizers), images, device="cuda")
    assert engine.outputs(((4, 4, 4), (4, 4, 4)))(images).is_cuda
    assert Evaluator(engine, tiny_task, "search").evaluate([8] * 3, [8] * 3).accuracy > 0.9
