"""A policy on a network that learns: which quantizer takes what, what gets gradients, what files give back."""

from collections.abc import Iterator
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from haq.errors import UserError
from haq.network.layers import Trace, trace
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.quantization.training.initialization import Initializer, LearnedShift
from haq.quantization.training.network import Saved, TrainableNetwork, load_network, start_network

LAYERS = 5  # stem, depthwise, mix, mix:2, classifier
BITS = ((8, 3, 4, 4, 8), (8, 4, 3, 3, None))
X = torch.rand(16, 1, 6, 6, generator=torch.Generator().manual_seed(9))


def started(model: nn.Module, traced: Trace, *, shift: LearnedShift = "learned") -> TrainableNetwork:
    return start_network(model, Initializer(model, traced, lambda: [X], shift=shift), BITS)


def test_weights_are_shared_with_their_quantizers(small_net: nn.Module, small_trace: Trace) -> None:
    network = started(small_net, small_trace)
    assert sorted(network.weights) == ["0", "1", "2", "4"]  # mix:2 has the weights of mix
    assert sorted(network.inputs) == ["0", "1", "2", "3"]
    assert [name for name, _ in network.quantizers()][:2] == ["stem.weight", "depthwise.weight"]


def test_everything_that_learns_gets_a_gradient(small_net: nn.Module, small_trace: Trace) -> None:
    network = started(small_net, small_trace)
    network.train()(X).square().sum().backward()
    without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not without
    moved = [name for name, parameter in network.named_parameters() if parameter.grad.abs().sum() > 0]
    assert {"model.stem.weight", "weights.0.raw_scale", "inputs.1.raw_scale", "inputs.1.shift"} <= set(moved)


def test_the_given_network_is_not_touched(small_net: nn.Module, small_trace: Trace) -> None:
    before = {name: value.clone() for name, value in small_net.state_dict().items()}
    network = started(small_net, small_trace).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network(X).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in small_net.state_dict().items())
    assert not torch.equal(network.model.stem.weight, before["stem.weight"])
    assert all(parameter.grad is None for parameter in small_net.parameters())


def test_without_bits_it_is_the_float_network(small_net: nn.Module, small_trace: Trace) -> None:
    nothing = (None,) * LAYERS
    network = start_network(
        small_net, Initializer(small_net, small_trace, lambda: [X], shift="learned"), (nothing, nothing)
    )
    assert not list(network.quantizers())
    assert torch.allclose(network.eval()(X), small_net(X), atol=1e-6)


def test_a_copy_runs_on_its_own_weights(small_net: nn.Module, small_trace: Trace) -> None:
    network = started(small_net, small_trace).eval()
    copy = deepcopy(network)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.zero_()
        assert torch.equal(network(X), network(X))
        assert not torch.equal(copy(X), network(X))


@pytest.mark.parametrize("shift", ["learned", "fixed", "none", "float"])
def test_files_give_the_same_network(shift: LearnedShift, small_net: nn.Module, small_trace: Trace) -> None:
    network = started(small_net, small_trace, shift=shift).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        (network(X) - X.mean()).square().sum().backward()
        optimizer.step()
    saved = Saved(network.model.state_dict(), network.quantizer_tensors(), shift)
    again = load_network(small_net, small_trace, BITS, saved)
    with torch.no_grad():
        assert torch.equal(network.eval()(X), again(X))


def test_kinds_of_shift(small_net: nn.Module, small_trace: Trace) -> None:
    kinds: dict[LearnedShift, tuple[bool, bool]] = {
        "learned": (True, True), "fixed": (False, True), "none": (False, False), "float": (True, True)
    }  # fmt: skip
    for shift, (learns, is_shifted) in kinds.items():
        quantizer = dict(started(small_net, small_trace, shift=shift).quantizers())["mix:2.input"]  # after SiLU
        assert (quantizer.shift is not None) is learns
        assert (quantizer.zero_point.item() != 0) is is_shifted


def test_what_is_deployed_is_what_learned(small_net: nn.Module, small_trace: Trace) -> None:
    network = started(small_net, small_trace).eval()
    deployed = deepcopy(small_net).to(memory_format=torch.channels_last)
    deployed.load_state_dict(network.model.state_dict())

    def nothing() -> Iterator[Tensor]:
        raise AssertionError("nothing is calibrated again")

    quantizers = Quantizers(deployed, small_trace, nothing)
    quantizers.load(network.quantizer_tensors(), *BITS)
    quantized = QuantizedModel(deployed, small_trace, quantizers)
    quantized.set_bits(*BITS)
    with torch.no_grad():
        assert torch.allclose(network(X), quantized(X), atol=1e-6)  # sums in another order


def test_files_of_another_network_are_refused(small_net: nn.Module, small_trace: Trace) -> None:
    network = started(small_net, small_trace)
    other = nn.Sequential(nn.Conv2d(1, 4, 3))
    with pytest.raises(UserError, match="do not fit"):
        load_network(
            other,
            trace(other, X[:1]),
            ((4,), (4,)),
            Saved(network.model.state_dict(), network.quantizer_tensors(), "learned"),
        )
