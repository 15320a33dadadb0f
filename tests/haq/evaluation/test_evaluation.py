"""Accuracy and divergence of a policy, each policy once, and what is counted."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from haq.errors import UserError
from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation
from haq.evaluation.store import EvaluationStore
from haq.network.layers import trace
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit


class Scripted:
    """An engine whose float network answers log-probabilities, and each policy others."""

    name = "scripted"
    images_per_policy = 7

    def __init__(self, float_outputs: Tensor, policy_outputs: Tensor, model: nn.Module | None = None) -> None:
        self.float_outputs, self.policy_outputs, self.runs = float_outputs, policy_outputs, 0
        self.model = model or nn.Identity()

    def runner(self, bits: PolicyBits | None) -> Callable[[Tensor], Tensor]:
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
    # Logits (ln 0.7, ln 0.1, ...) and (ln 0.4, ln 0.2, ...): one value differs from three equal ones by ln 7 and ln 2.
    assert found.noise == pytest.approx(((np.log(7) - np.log(2)) / np.log(7)) ** 2, rel=1e-5)


def test_noise_is_what_all_outputs_of_an_image_do_not_share(tiny_task: ClassificationTask) -> None:
    reference = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    moved = reference + torch.tensor([0.3, -0.1, 0.2, 0.0])
    noises = [
        Evaluator(Scripted(reference, policy), tiny_task, "search", batch_size=40).evaluate([4], [4]).noise
        for policy in (moved, moved + 7, reference, reference - 7)
    ]
    signal = reference.double().var(dim=1, correction=0).mean().item()
    assert noises == pytest.approx([np.var([0.3, -0.1, 0.2, 0.0]) / signal] * 2 + [0.0] * 2, rel=1e-4, abs=1e-9)


def test_the_noise_of_a_single_output_is_counted_whole(tiny_task: ClassificationTask) -> None:
    evaluator = Evaluator(Scripted(torch.full((1, 1), 2.0), torch.full((1, 1), 3.0)), tiny_task, "search")
    assert evaluator.evaluate([4], [4]).noise == pytest.approx(0.25)


def test_where_float_outputs_are_all_alike_noise_is_finite(tiny_task: ClassificationTask) -> None:
    evaluator = Evaluator(Scripted(torch.ones(1, 4), torch.eye(1, 4)), tiny_task, "search")
    assert np.isfinite(evaluator.evaluate([4], [4]).noise)


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
    evaluator.recall([4], [4], Evaluation(0.5, 0.25, 0.125), is_counted=False)
    assert (evaluator.evaluations, evaluator.forward_images) == (0, 47)
    assert evaluator.evaluate([4], [4]) == Evaluation(0.5, 0.25, 0.125)
    assert evaluator.evaluate([4], [4]) == Evaluation(0.5, 0.25, 0.125)
    assert (evaluator.evaluations, evaluator.forward_images, engine.runs) == (1, 94, 1)


def test_what_was_counted_before_is_not_counted_again(tiny_task: ClassificationTask) -> None:
    engine, evaluator = scripted(tiny_task)
    evaluator.recall([4], [4], Evaluation(0.5, 0.25, 0.125), is_counted=True)
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
        assert evaluator.evaluate([None] * 3, [None] * 3) == Evaluation(1.0, 0.0, 0.0)
        assert evaluator.evaluate([1] * 3, [1] * 3).divergence > 0.05


def test_one_policy_does_not_colour_the_next(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    net = tiny_net.eval()
    images = tiny_task.splits["calibration"].take(torch.arange(16))[0]
    engine = torch_engine(net, tiny_task, images)
    first, other = ((2, 3, 4), (4, 3, 2)), ((8, 2, 8), (2, 8, 2))
    x = tiny_task.splits["search"].take(torch.arange(40))[0]
    with torch.no_grad():
        expected = engine.runner(first)(x)
        engine.runner(other)(x)
        assert torch.equal(engine.runner(None)(x), net(x))
        assert torch.equal(engine.runner(first)(x), expected)


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
    assert engine.runner(((4, 4, 4), (4, 4, 4)))(images).is_cuda
    assert Evaluator(engine, tiny_task, "search").evaluate([8] * 3, [8] * 3).accuracy > 0.9


def test_what_is_kept_is_counted_as_if_it_had_been_run(tiny_task: ClassificationTask, tmp_path: Path) -> None:
    counted, found, runs = [], [], []
    for _ in ("cold", "warm"):
        engine, evaluator = scripted(tiny_task, store=EvaluationStore(tmp_path))
        found.append([evaluator.evaluate([w], [4]) for w in (4, 5, 4)])
        counted.append((evaluator.evaluations, evaluator.forward_images))
        runs.append(engine.runs)
    assert found[0] == found[1]
    assert counted == [(2, 47 * 3)] * 2
    assert runs == [1 + 8 + 2, 1 + 8]  # in float, the policies of the key, those that were asked for


def test_evaluators_with_one_store_run_the_float_network_once(tiny_task: ClassificationTask, tmp_path: Path) -> None:
    store = EvaluationStore(tmp_path)
    engine, first = scripted(tiny_task, store=store)
    second = Evaluator(engine, tiny_task, "search", store=store)
    assert engine.runs == 1
    assert (second.accuracy_fp32, second.forward_images) == (first.accuracy_fp32, first.forward_images)
    Evaluator(engine, tiny_task, "report", store=store)
    Evaluator(engine, tiny_task, "search", store=store, batch_size=3)
    Evaluator(engine, tiny_task, "search")
    assert engine.runs == 4
    other, _ = scripted(tiny_task, store=store)
    assert other.runs == 1


def test_what_was_recalled_comes_before_the_store(tiny_task: ClassificationTask, tmp_path: Path) -> None:
    engine, evaluator = scripted(tiny_task, store=EvaluationStore(tmp_path))
    evaluator.recall([4], [4], Evaluation(0.5, 0.25, 0.125), is_counted=False)
    assert evaluator.evaluate([4], [4]) == Evaluation(0.5, 0.25, 0.125)
    assert engine.runs == 1
    assert not list(tmp_path.iterdir())


def test_other_data_are_other_evaluations(tiny_task: ClassificationTask, tmp_path: Path) -> None:
    store = EvaluationStore(tmp_path)
    for split, batch_size in (("search", 256), ("report", 256), ("search", 16)):
        float_row, policy_row = torch.tensor([[0.7, 0.1, 0.1, 0.1]]).log(), torch.zeros(1, 4)
        engine = Scripted(float_row, policy_row)
        Evaluator(engine, tiny_task, split, batch_size=batch_size, store=store).evaluate([4], [4])  # type: ignore[arg-type]
    assert len(list(tmp_path.iterdir())) == 3


def test_other_labels_are_other_evaluations(tiny_task: ClassificationTask, tmp_path: Path) -> None:
    store = EvaluationStore(tmp_path)
    scripted(tiny_task, store=store)[1].evaluate([4], [4])
    inputs, labels = tiny_task.splits["search"].take(torch.arange(40))
    shifted = [(image, (int(label) + 1) % 4) for image, label in zip(inputs, labels, strict=True)]
    task = replace(tiny_task, splits={**tiny_task.splits, "search": StoredSplit(shifted)})
    scripted(task, store=store)[1].evaluate([4], [4])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_changed_weight_means_other_evaluations_though_no_output_shows_it(
    tiny_task: ClassificationTask, tmp_path: Path
) -> None:
    weight = torch.ones(2, 3)
    for scale in (1.0, 1.0 + 1e-6, 1.0):
        network = nn.Linear(3, 2)
        network.load_state_dict({"weight": scale * weight, "bias": torch.zeros(2)})
        engine = Scripted(torch.zeros(1, 4), torch.ones(1, 4), network)
        Evaluator(engine, tiny_task, "search", store=EvaluationStore(tmp_path)).evaluate([4], [4])
    assert len(list(tmp_path.iterdir())) == 2
