"""At which temperature outputs are compared: that at which most images count."""

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import Tensor

from haq.evaluation.evaluator import Evaluator
from haq.evaluation.softening import TEMPERATURES, sufficient_temperature
from haq.tasks.classification import ClassificationTask
from tests.haq.evaluation.test_evaluation import Scripted


def share(logits: Tensor, temperature: float) -> float:
    """Kish's effective number of images over their number."""
    weights = 1 - (softmax(logits.double().numpy() / temperature, axis=1) ** 2).sum(axis=1)
    return float(weights.mean() ** 2 / (weights**2).mean())


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0, 15.0])
def test_the_lowest_temperature_at_which_nine_of_ten_images_count(scale: float) -> None:
    logits = scale * torch.randn(200, 10, generator=torch.Generator().manual_seed(0))
    found = sufficient_temperature(logits)
    assert share(logits, found) >= 0.9
    assert all(share(logits, lower) < 0.9 for lower in TEMPERATURES if lower < found)


def test_images_that_are_all_alike_need_no_softening() -> None:
    assert sufficient_temperature(torch.tensor([[0.0, 5.0, 1.0]]).repeat(8, 1)) == 1.0


@pytest.mark.parametrize("logits", [torch.tensor([[0.0, 1.0], [0.0, 1e6]]), torch.full((4, 1), 3.0)])
def test_where_no_temperature_is_enough_the_highest_is_taken(logits: Tensor) -> None:
    assert sufficient_temperature(logits) == TEMPERATURES[-1]


def test_divergences_of_softened_outputs_stay_comparable(tiny_task: ClassificationTask) -> None:
    reference, disturbed = torch.tensor([[2.0, 0.0, -1.0, 0.5]]), torch.tensor([[1.7, 0.1, -0.8, 0.6]])
    evaluator = Evaluator(Scripted(reference, disturbed), tiny_task, "search", temperature=4.0)
    ours, theirs = (log_softmax(each.numpy() / 4, axis=1) for each in (reference, disturbed))
    expected = 16 * (np.exp(ours) * (ours - theirs)).sum()
    assert evaluator.evaluate([4], [4]).divergence == pytest.approx(expected, rel=1e-5)
    plain = Evaluator(Scripted(reference, disturbed), tiny_task, "search").evaluate([4], [4]).divergence
    assert 0.3 < plain / expected < 3


def test_a_small_disturbance_of_a_soft_output_is_not_lost(tiny_task: ClassificationTask) -> None:
    reference = torch.tensor([[2.0, 0.0, -1.0, 0.5]])
    evaluator = Evaluator(
        Scripted(reference, reference + torch.tensor([[1e-4, 0.0, 0.0, 0.0]])), tiny_task, "search", temperature=16.0
    )
    p = torch.softmax(reference.double() / 16, dim=1)[0, 0].item()
    assert evaluator.evaluate([4], [4]).divergence == pytest.approx(0.5 * p * (1 - p) * 1e-8, rel=0.01)


def test_left_open_the_temperature_is_that_of_the_float_outputs(tiny_task: ClassificationTask) -> None:
    doubts = torch.tensor([[9.0, 0.0, 0.0, 0.0]]).repeat(40, 1)
    doubts[0, 0] = 0
    evaluator = Evaluator(Scripted(doubts, doubts), tiny_task, "search", temperature=None)
    assert evaluator.temperature == sufficient_temperature(doubts) > 1
