"""Distances of raw outputs of detectors, by hand."""

from math import log

import pytest
import torch
from torch import Tensor, tensor

from haq.tasks.detection.outputs import OutputPart
from haq.tasks.detection.parts_distance import object_probabilities, parts_distance, weighted_values

SURE, EVEN = log(0.8 / 0.2), 0.0  # probabilities 0.8 and 0.5


def head(box: float, objectness: float, score: float) -> list[OutputPart]:
    """One position of one image, with four equal coordinates and one class."""
    values: list[Tensor] = [torch.full((1, 1, 4), box), torch.full((1, 1, 1), objectness), torch.full((1, 1, 1), score)]
    return [OutputPart(kind, value) for kind, value in zip(("box", "objectness", "class"), values, strict=True)]


def test_coordinates_are_weighted_by_the_objectness_of_the_reference() -> None:
    found = parts_distance(head(1.0, SURE, EVEN), head(0.5, SURE, EVEN))
    assert found.error.item() == pytest.approx(0.8 * 4 * 0.25)
    assert found.divergence.item() == pytest.approx(0.8 * 4 * 0.25 / 2)
    assert found.signal.item() == pytest.approx(0.8 * 4 * 0.25 + 0.8 * 0.2 * SURE**2)


def test_classes_are_weighted_and_objectness_is_not() -> None:
    classes = parts_distance(head(0.0, SURE, EVEN), head(0.0, SURE, SURE))
    expected = 0.8 * log(0.8 / 0.5) + 0.2 * log(0.2 / 0.5)
    assert classes.divergence.item() == pytest.approx(0.8 * expected, rel=1e-4)
    objectness = parts_distance(head(0.0, EVEN, EVEN), head(0.0, SURE, EVEN))
    assert objectness.error.item() == pytest.approx(2 * expected, rel=1e-4)
    assert objectness.divergence.item() == pytest.approx(expected, rel=1e-4)


def test_the_background_hardly_counts() -> None:
    background = parts_distance(head(3.0, -9.0, 4.0), head(0.0, -9.0, -4.0))
    assert background.error.item() < 0.01


def test_each_head_has_its_own_weights() -> None:
    weights = [weight.item() for weight in object_probabilities([*head(0.0, SURE, EVEN), *head(0.0, EVEN, SURE)])]
    assert weights == pytest.approx([0.8, 1.0, 0.8, 0.5, 1.0, 0.5])


def test_without_objectness_the_likeliest_class_is_the_weight() -> None:
    box = OutputPart("box", torch.zeros(1, 1, 4))
    classes = OutputPart("class", tensor([[[EVEN, SURE]]]))
    assert [weight.item() for weight in object_probabilities([box, classes])] == pytest.approx([0.8, 0.8])


def test_small_changes_of_the_values_are_the_error() -> None:
    parts, near = head(1.0, SURE, EVEN), head(1.01, SURE + 0.01, EVEN - 0.01)
    weights = list(object_probabilities(parts))
    # The values of both with the standard deviations of the reference.
    shift = weighted_values([OutputPart(part.kind, torch.full_like(part.values, 0.01)) for part in parts], weights)
    expected = 0.8 * 4 * 1e-4 + 0.16 * 1e-4 + 0.8 * 0.25 * 1e-4
    assert parts_distance(near, parts).error.item() == pytest.approx(expected, rel=0.01)
    assert shift[0, :4].square().sum().item() == pytest.approx(0.8 * 4 * 1e-4)


def test_the_divergence_has_a_gradient() -> None:
    raw = torch.zeros(1, 1, 1, requires_grad=True)
    parts = head(0.0, EVEN, EVEN)
    parts_distance([parts[0], OutputPart("objectness", raw), parts[2]], head(0.0, SURE, EVEN)).divergence.backward()
    assert raw.grad is not None
    assert raw.grad.item() == pytest.approx(0.5 - 0.8)
