"""Running statistics from a few batches."""

import torch
from torch import nn

from haq.quantization.training.averaging import MovingAverage
from haq.quantization.training.batch_norms import reestimate


def test_statistics_are_those_of_the_batches() -> None:
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(2, momentum=0.3))
    batches = [torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[5.0, 0.0], [7.0, 0.0]])]
    reestimate(network, batches)
    norm = network[1]
    assert norm.running_mean.tolist() == [4.0, 1.0]
    torch.testing.assert_close(norm.running_var, torch.tensor([20.0, 12.0]) / 3)  # unbiased, over all four
    assert norm.momentum == 0.3
    assert not any(module.training for module in network.modules())


def test_statistics_hold_for_what_norms_get_once_they_are_re_estimated() -> None:
    first, second = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    network = nn.Sequential(first, nn.Hardtanh(0.0, 1.0), second)
    # Normalized batch by batch both look alike; between them the first norm tells them apart.
    batches = [torch.tensor([[0.0], [1.0]]), torch.tensor([[10.0], [11.0]])]
    reestimate(network, batches * 200)
    with torch.no_grad():
        inputs = network[:2](torch.cat(batches))
    torch.testing.assert_close(second.running_mean, inputs.mean(dim=0), atol=0.01, rtol=0)
    torch.testing.assert_close(second.running_var, inputs.var(dim=0, correction=0), atol=0.01, rtol=0)


def test_an_average_forgets_its_start() -> None:
    network = nn.Linear(1, 1)
    average = MovingAverage(network, 0.5)
    with torch.no_grad():
        network.weight.fill_(3.0)
        for _ in range(40):
            average.update()
        network.weight.fill_(100.0)
    average.apply()
    assert abs(network.weight.item() - 3.0) < 1e-4


def test_an_average_goes_on_where_it_was_taken() -> None:
    ours, theirs = nn.Linear(2, 2), nn.Linear(2, 2)
    theirs.load_state_dict(ours.state_dict())
    first, second = MovingAverage(ours, 0.9), MovingAverage(theirs, 0.9)
    first.update()
    second.load_state_dict(first.state_dict())
    for average, network in ((first, ours), (second, theirs)):
        with torch.no_grad():
            network.weight.add_(1.0)
        average.update()
        average.apply()
    assert torch.equal(ours.weight, theirs.weight)
