"""Calls of torch that multiply with weights, seen from outside of the network."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.network.tracing.weighted_calls import Call, WeightedCalls, WeightIndex, WeightSlice


class Recorder(WeightedCalls):
    """Writes calls down and answers them as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def weighted(self, call: Call) -> Tensor:
        self.calls.append(call)
        return super().weighted(call)


class Doubled(WeightedCalls):
    """Every layer sees twice its input."""

    def weighted(self, call: Call) -> Tensor:
        return call.run(2 * call.input, call.weight)


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
def test_watching_changes_no_answer(network: nn.Module) -> None:
    expected = network(X)
    with Recorder() as recorder:
        seen = network(X)
    torch.testing.assert_close(seen, expected, rtol=0, atol=0)
    assert recorder.calls


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("is_training", [True, False])
def test_attention_answers_as_it_does_unwatched(need_weights: bool, is_training: bool) -> None:
    attention = nn.MultiheadAttention(6, 2, batch_first=True).train(is_training)
    with torch.no_grad():
        expected = attention(X, X, X, need_weights=need_weights)
        with Recorder() as recorder:
            seen = attention(X, X, X, need_weights=need_weights)
    torch.testing.assert_close(seen, expected)
    assert [tuple(call.weight.shape) for call in recorder.calls] == [(18, 6), (6, 6)]


def test_arguments_are_found_by_position_and_by_name() -> None:
    weight = torch.ones(2, 4, 3)
    with Recorder() as recorder:
        F.conv1d(X, weight, None, 2)
        F.conv1d(input=X, weight=weight, stride=2, groups=1)
        F.conv_transpose1d(X, torch.ones(4, 2, 3), None, 2, 0, 1, 1, 1)
    assert [call.arguments["stride"] for call in recorder.calls] == [2, 2, 2]
    assert recorder.calls[2].arguments["output_padding"] == 1
    assert all(call.input is X for call in recorder.calls)


def test_calls_can_be_answered_with_another_input() -> None:
    layer = nn.Linear(6, 3, bias=False)
    with Doubled():
        doubled = layer(X)
    torch.testing.assert_close(doubled, 2 * layer(X))
    torch.testing.assert_close(layer(X), X @ layer.weight.T)


def test_gradients_flow_through_watched_calls() -> None:
    layer = nn.Linear(6, 3)
    with Recorder():
        layer(X).sum().backward()
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, X.sum((0, 1)).expand(3, 6))


def test_nothing_is_watched_after_an_error() -> None:
    with pytest.raises(RuntimeError), Recorder() as recorder:
        nn.Linear(5, 3)(X)
    count = len(recorder.calls)
    nn.Linear(6, 3)(X)
    assert len(recorder.calls) == count


@pytest.mark.parametrize("context", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_a_slice_of_a_parameter_is_found_in_every_mode(context: type) -> None:
    model = nn.Linear(4, 6)
    index = WeightIndex(model)
    with context():
        assert index.find(model.weight) == WeightSlice("weight", 0, (6, 4))
        assert index.find(model.weight[2:5]) == WeightSlice("weight", 8, (3, 4))
        assert index.find(model.weight.chunk(3)[2]) == WeightSlice("weight", 16, (2, 4))
        assert index.find(model.weight * 1) is None


def test_a_slice_counts_from_where_its_parameter_begins_in_shared_storage() -> None:
    flat = torch.arange(40.0)
    model = nn.Linear(4, 6)
    model.weight = nn.Parameter(flat[10:34].view(6, 4))
    index = WeightIndex(model)
    assert index.find(model.weight) == WeightSlice("weight", 0, (6, 4))
    found = index.find(model.weight[2:5])
    assert found == WeightSlice("weight", 8, (3, 4))
    torch.testing.assert_close(model.weight.flatten()[8:20].view(3, 4), model.weight[2:5])


def test_what_is_not_stored_in_one_piece_is_no_slice() -> None:
    square = nn.Linear(4, 4)
    index = WeightIndex(square)
    assert index.find(square.weight.t()) is None
    assert index.find(square.weight[:, :2]) is None
    assert index.name(square.weight.t()) == "weight"
    assert index.name(torch.zeros(4, 4)) is None


def test_a_parameter_in_another_memory_format_is_found_whole() -> None:
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    index = WeightIndex(conv)
    assert index.find(conv.weight) == WeightSlice("weight", 0, (4, 3, 3, 3))
    assert index.find(conv.weight[:2]) is None
