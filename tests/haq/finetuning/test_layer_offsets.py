"""Layers whose inputs have a float offset: the offset is a bias, and borders hold it."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from haq.network.layers import trace
from haq.network.tracing.weighted_calls import OPERATIONS, Call
from haq.quantization.adaptive import AdaptiveQuantizer
from haq.quantization.training.initialization import Initializer
from haq.quantization.training.network import start_network
from haq.quantization.training.offsets import run_quantized


def quantizer() -> AdaptiveQuantizer:
    """Grid of four levels -0.4, 0.1, 0.6 and 1.1, of which the zero point's code 1 has the value 0.1."""
    made = AdaptiveQuantizer(2, shift="float", batch_axis=None)
    made.start_at(torch.tensor(0.5), torch.tensor(0.8), signed=False)
    return made


def test_zero_point_and_offset_are_those_of_the_shift_in_whole_codes_and_the_rest() -> None:
    made = quantizer()
    assert made.shift is not None
    assert made.offset is not None
    assert made.zero_point.item() == 1
    assert made.offset.item() == pytest.approx(0.1)
    made.shift.data.fill_(0.45)  # 0.45 is one step, which the zero point takes, and -0.05
    assert made.zero_point.item() == 0
    assert made.offset.item() == pytest.approx(-0.05)
    assert made.codes(torch.tensor([-9.0, 0.0, 0.4, 9.0])).tolist() == [0, 0, 1, 3]
    assert made(torch.tensor([0.4]), centered=True).item() == pytest.approx(0.5)


def test_a_padded_convolution_has_the_offset_at_its_border() -> None:
    x, weight = torch.tensor([[[[0.0, 1.2], [0.7, -3.0]]]]), torch.tensor([[[[1.0, 2, 3]] * 3]])
    arguments = {"input": x, "weight": weight, "bias": None, "padding": 1}
    call = Call(torch.conv2d, OPERATIONS[torch.conv2d], arguments)
    found = run_quantized(call, quantizer(), weight)
    grid = torch.tensor([[[[0.1, 1.1], [0.6, -0.4]]]])
    expected = functional.conv2d(functional.pad(grid, (1, 1, 1, 1), value=0.1), weight)
    assert torch.allclose(found, expected, atol=1e-6)


def test_gradients_are_those_of_values_with_their_offset_except_at_the_border() -> None:
    x, weight = torch.tensor([[0.0, 1.2, -3.0, 9.0]]), torch.tensor([[1.0, -2, 3, 0.5]], requires_grad=True)
    call = Call(functional.linear, OPERATIONS[functional.linear], {"input": x, "weight": weight})
    ours, plain = quantizer(), quantizer()
    torch.autograd.backward(run_quantized(call, ours, weight).sum())
    found = weight.grad
    weight.grad = None
    torch.autograd.backward(functional.linear(plain(x), weight).sum())
    assert found is not None
    assert weight.grad is not None
    assert torch.allclose(found, weight.grad)
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.allclose(one.grad, other.grad)


def test_layers_whose_bias_cannot_hold_an_offset_have_whole_zero_points() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.ConvTranspose2d(4, 4, 3), nn.SiLU(), nn.Conv2d(4, 2, 3))
        images = torch.randn(16, 1, 8, 8)
    initializer = Initializer(net, trace(net, images[:1]), lambda: [images], shift="float")
    network = start_network(net, initializer, ((4, 4, 4), (4, 4, 4)))
    kinds = {name: each.shift_kind for name, each in network.quantizers() if name.endswith(".input")}
    assert kinds == {"0.input": "float", "2.input": "integer", "4.input": "float"}
