import pytest
import torch

from haq.tasks.distances import distribution_distance, squared_distance


def test_distance_of_equal_outputs_is_zero() -> None:
    outputs = torch.tensor([[1.0, 2.0], [0.0, -3.0]])
    for distance in (distribution_distance(outputs, outputs), squared_distance({"a": outputs}, {"a": outputs})):
        assert distance.divergence.item() == pytest.approx(0.0, abs=1e-7)
        assert distance.error.item() == 0


def test_divergence_of_logits_by_hand() -> None:
    # softmax (1/2, 1/2) from (3/4, 1/4), in nats
    ours, theirs = torch.zeros(1, 2), torch.tensor([[3.0, 1.0]]).log()
    expected = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    assert distribution_distance(ours, theirs).divergence.item() == pytest.approx(expected.item())


def test_power_of_logits_leaves_out_the_mean_of_each_item() -> None:
    ours, theirs = torch.tensor([[5.0, 3.0]]), torch.tensor([[1.0, -1.0]])
    distance = distribution_distance(ours, theirs)
    assert (distance.error.item(), distance.signal.item()) == (0.0, 2.0)


def test_squared_distance_counts_all_tensors() -> None:
    ours = (torch.tensor([[1.0, 2.0]]), {"a": torch.tensor([3.0])})
    theirs = (torch.tensor([[1.0, 0.0]]), {"a": torch.tensor([2.0])})
    distance = squared_distance(ours, theirs)
    assert (distance.divergence.item(), distance.error.item(), distance.signal.item()) == (2.5, 5.0, 5.0)


def test_divergence_has_a_gradient() -> None:
    outputs = torch.tensor([[1.0, 0.0]], requires_grad=True)
    distribution_distance(outputs, torch.zeros(1, 2)).divergence.backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().sum() > 0
