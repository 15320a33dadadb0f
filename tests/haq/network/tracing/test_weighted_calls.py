"""Function mode that sees all multiplications with weights."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.network.tracing.call_mode import MultiplicationMode
from haq.network.tracing.weighted_calls import Call, WeightIndex, WeightSlice


class Recorder(MultiplicationMode):
    """Mode that records calls and runs them unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def weighted(self, call: Call) -> Tensor:
        self.calls.append(call)
        return super().weighted(call)


class Doubled(MultiplicationMode):
    """Mode that doubles the input of every layer."""

    def weighted(self, call: Call) -> Tensor:
        return call.run(2 * call.input, call.factor)


X = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "network",
    [
        nn.Conv1d(4, 8, 3, padding=1),
        nn.Conv1d(4, 8, 3, padding="same", dilation=2, groups=2),
        nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, groups=2, dilation=2),
        nn.Linear(6, 3),
        nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True),
    ],
)
def test_mode_does_not_change_outputs(network: nn.Module) -> None:
    expected = network(X)
    with Recorder() as recorder:
        seen = network(X)
    torch.testing.assert_close(seen, expected, rtol=0, atol=0)
    assert recorder.calls


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("is_training", [True, False])
def test_mode_does_not_change_attention(need_weights: bool, is_training: bool) -> None:
    attention = nn.MultiheadAttention(6, 2, batch_first=True).train(is_training)
    with torch.no_grad():
        expected = attention(X, X, X, need_weights=need_weights)
        with Recorder() as recorder:
            seen = attention(X, X, X, need_weights=need_weights)
    torch.testing.assert_close(seen, expected)
    assert [tuple(call.factor.shape) for call in recorder.calls] == [(18, 6), (6, 6)]


def test_arguments_by_position_and_by_name() -> None:
    weight = torch.ones(2, 4, 3)
    with Recorder() as recorder:
        F.conv1d(X, weight, None, 2)
        F.conv1d(input=X, weight=weight, stride=2, groups=1)
        F.conv_transpose1d(X, torch.ones(4, 2, 3), None, 2, 0, 1, 1, 1)
    assert [call.arguments["stride"] for call in recorder.calls] == [2, 2, 2]
    assert recorder.calls[2].arguments["output_padding"] == 1
    assert all(call.input is X for call in recorder.calls)


def test_calls_can_be_run_with_another_input() -> None:
    layer = nn.Linear(6, 3, bias=False)
    with Doubled():
        doubled = layer(X)
    torch.testing.assert_close(doubled, 2 * layer(X))
    torch.testing.assert_close(layer(X), X @ layer.weight.T)


def test_gradients_pass_through_mode() -> None:
    layer = nn.Linear(6, 3)
    with Recorder():
        layer(X).sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, X.sum((0, 1)).expand(3, 6))


def test_mode_ends_after_error() -> None:
    with pytest.raises(RuntimeError), Recorder() as recorder:
        nn.Linear(5, 3)(X)
    count = len(recorder.calls)
    nn.Linear(6, 3)(X)
    assert len(recorder.calls) == count


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_parameter_slice_is_found_in_every_gradient_mode(context: type) -> None:
    model = nn.Linear(4, 6)
    index = WeightIndex(model)
    with context():
        assert index.find(model.weight) == WeightSlice("weight", 0, (6, 4))
        assert index.find(model.weight[2:5]) == WeightSlice("weight", 8, (3, 4))
        assert index.find(model.weight.chunk(3)[2]) == WeightSlice("weight", 16, (2, 4))
        assert index.find(model.weight * 1) is None


def test_slice_offset_is_relative_to_parameter() -> None:
    flat = torch.arange(40.0)
    model = nn.Linear(4, 6)
    model.weight = nn.Parameter(flat[10:34].view(6, 4))
    index = WeightIndex(model)
    assert index.find(model.weight) == WeightSlice("weight", 0, (6, 4))
    found = index.find(model.weight[2:5])
    assert found == WeightSlice("weight", 8, (3, 4))
    torch.testing.assert_close(model.weight.flatten()[8:20].view(3, 4), model.weight[2:5])


def test_transposed_view_is_a_slice_and_one_with_gaps_is_not() -> None:
    square = nn.Linear(4, 4)
    index = WeightIndex(square)
    assert index.find(square.weight.t()) == WeightSlice("weight", 0, (4, 4), is_transposed=True)
    assert index.find(square.weight[:, :2]) is None
    assert index.name(square.weight.t()) == "weight"
    assert index.name(torch.zeros(4, 4)) is None


def test_channels_last_parameter_is_found() -> None:
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    index = WeightIndex(conv)
    assert index.find(conv.weight) == WeightSlice("weight", 0, (4, 3, 3, 3))
    assert index.find(conv.weight[:2]) is None
