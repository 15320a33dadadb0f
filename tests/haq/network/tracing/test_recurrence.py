"""Recurrent layers evaluated step by step: equal to torch, traced, priced and quantized."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from haq.evaluation.engines.onnxruntime import NotExportableError, OnnxEngine
from haq.evaluation.engines.torch import TorchEngine
from haq.network.layers import trace, trace_layers
from haq.network.tracing.call_mode import MultiplicationMode
from haq.network.tracing.weighted_calls import Call
from haq.quantization.calibration_pass import calibrate
from haq.quantization.options import QuantizerOptions
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.quantization.range import fake_quantize
from hardware_sim.catalog import device_names, load_accelerator
from hardware_sim.cost import UnsupportedError, width_index

STACKS: dict[str, Callable[[], nn.RNNBase]] = {
    "lstm": lambda: nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True, dropout=0.3),
    "lstm projected": lambda: nn.LSTM(4, 3, 2, bias=False, proj_size=2, bidirectional=True),
    "gru": lambda: nn.GRU(4, 3, 2, batch_first=True),
    "gru backwards too": lambda: nn.GRU(4, 3, bias=False, bidirectional=True),
    "rnn": lambda: nn.RNN(4, 3, 2),
    "rnn relu": lambda: nn.RNN(4, 3, nonlinearity="relu", batch_first=True),
}


@pytest.fixture(autouse=True)
def _seeded() -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def tensors(result: Any) -> list[Tensor]:
    outputs, state = result
    outputs = outputs.data if isinstance(outputs, PackedSequence) else outputs
    return [outputs, *([state] if isinstance(state, Tensor) else state)]


@pytest.mark.parametrize("name", STACKS)
def test_step_by_step_equals_torch(name: str) -> None:
    stack = STACKS[name]().eval()
    x = torch.randn(5, 5, 4)
    packed = pack_padded_sequence(x, torch.tensor([3, 5, 1, 2, 5]), batch_first=True, enforce_sorted=False)
    state = stack(x)[1]
    for arguments in [(x,), (x, state), (x[0],), (packed,), (packed, state)]:
        expected = tensors(stack(*arguments))
        with MultiplicationMode():
            torch.testing.assert_close(tensors(stack(*arguments)), expected)


@pytest.mark.parametrize("cell", [nn.LSTMCell(4, 3), nn.GRUCell(4, 3), nn.RNNCell(4, 3, bias=False)])
def test_cell_equals_torch(cell: nn.Module) -> None:
    x = torch.randn(2, 4)
    expected = cell(x, cell(x))
    with MultiplicationMode():
        torch.testing.assert_close(cell(x, cell(x)), expected)


def test_dropout_between_layers_in_training_only() -> None:
    stack, x = nn.GRU(4, 3, 2, dropout=1.0), torch.randn(5, 1, 4)
    with MultiplicationMode():
        # All of the first layer is dropped, so that the second cannot tell inputs apart.
        torch.testing.assert_close(stack(x)[0], stack(2 * x)[0])
        assert not torch.allclose(stack.eval()(x)[0], stack(2 * x)[0])


def test_gradients_equal_torch() -> None:
    stack, x = nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True), torch.randn(2, 5, 4)
    weights = tuple(stack.parameters())
    expected = torch.autograd.grad(stack(x)[0].square().sum(), weights)
    with MultiplicationMode():
        found = torch.autograd.grad(stack(x)[0].square().sum(), weights)
    torch.testing.assert_close(found, expected)


class Read(nn.Module):
    """Recurrent module, applied several times in sequence, and a classifier of its last step."""

    def __init__(self, stack: nn.RNNBase, *, calls: int = 1) -> None:
        super().__init__()
        self.stack, self.calls = stack, calls
        self.head = nn.Linear(stack.hidden_size * (2 if stack.bidirectional else 1), 3)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.calls):
            x = self.stack(x)[0]
        scores: Tensor = self.head(x[:, -1])
        return scores


class Loop(nn.Module):
    """Recurrent cell that the network calls in a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.LSTMCell(4, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        assert state is not None
        scores: Tensor = self.head(state[0])
        return scores


def test_recurrent_module_has_two_layers_per_layer_and_direction() -> None:
    layers = trace_layers(Read(nn.LSTM(4, 6, 2, batch_first=True, bidirectional=True)), torch.zeros(1, 5, 4))
    # Four gates of six; the second layer reads both directions of the first.
    assert [(layer.name, layer.kind, layer.c_in, layer.c_out) for layer in layers] == [
        ("stack.ih_l0", "linear", 4, 24),
        ("stack.hh_l0", "recurrent", 6, 24),
        ("stack.ih_l0_reverse", "linear", 4, 24),
        ("stack.hh_l0_reverse", "recurrent", 6, 24),
        ("stack.ih_l1", "linear", 12, 24),
        ("stack.hh_l1", "recurrent", 6, 24),
        ("stack.ih_l1_reverse", "linear", 12, 24),
        ("stack.hh_l1_reverse", "recurrent", 6, 24),
        ("head", "linear", 12, 3),
    ]
    assert [layer.macs for layer in layers[:2]] == [5 * 4 * 24, 5 * 6 * 24]
    assert [layer.weight_count for layer in layers[:2]] == [4 * 24, 6 * 24]
    assert layers[1].output_size == (5, 1)
    assert layers[4].input_tensors == (2, 4)
    assert layers[1].held_tensors == (1,)  # the input's share of all steps, until the last one


@pytest.mark.parametrize(
    ("stack", "names", "gates"),
    [
        (nn.GRU(4, 6, batch_first=True), ["ih_l0", "hh_l0"], 3),
        (nn.RNN(4, 6, batch_first=True, nonlinearity="relu", bias=False), ["ih_l0", "hh_l0"], 1),
        (nn.LSTM(4, 8, batch_first=True, proj_size=6), ["ih_l0", "hh_l0", "hr_l0"], None),
    ],
)
def test_layers_of_other_recurrent_modules(stack: nn.RNNBase, names: list[str], gates: int | None) -> None:
    layers = trace_layers(stack, torch.zeros(1, 5, 4))
    assert [layer.name for layer in layers] == names
    shapes = [(layer.c_in, layer.c_out) for layer in layers]
    assert shapes == ([(4, 32), (6, 32), (8, 6)] if gates is None else [(4, 6 * gates), (6, 6 * gates)])
    assert all(layer.output_size == (5, 1) for layer in layers)
    assert sum(layer.weight_count for layer in layers) == sum(w.numel() for w in stack.parameters() if w.ndim > 1)


def test_further_calls_and_loop_steps_are_tied() -> None:
    layers = trace_layers(Read(nn.GRU(4, 4, batch_first=True), calls=2), torch.zeros(1, 5, 4))
    names = [(layer.name, layer.tied_to) for layer in layers[:4]]
    first = [("stack.ih_l0", None), ("stack.hh_l0", None)]
    assert names == [*first, ("stack.ih_l0:2", "stack.ih_l0"), ("stack.hh_l0:2", "stack.hh_l0")]
    loop = trace_layers(Loop(), torch.zeros(1, 2, 4))
    assert [layer.name for layer in loop] == ["cell.ih", "cell.hh", "cell.ih:2", "cell.hh:2", "head"]
    assert [layer.output_size for layer in loop] == [(1, 1)] * 5


def test_packed_sequences_are_traced() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(4, 6, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            last: Tensor = self.gru(pack_padded_sequence(x, torch.tensor([3]), batch_first=True))[1]
            return last

    layers = trace_layers(Packed(), torch.zeros(1, 5, 4))
    assert [(layer.name, layer.output_size) for layer in layers] == [("gru.ih_l0", (3, 1)), ("gru.hh_l0", (3, 1))]
    assert layers[0].input_tensors == (0,)


def test_computed_recurrent_weights_are_refused() -> None:
    model = Read(nn.GRU(4, 6, batch_first=True))
    nn.utils.parametrizations.weight_norm(model.stack, "weight_hh_l0")
    found = trace(model, torch.zeros(1, 5, 4))
    assert [layer.name for layer in found.layers] == ["stack.ih_l0", "head"]
    assert [(refused.name, "computed" in refused.reason) for refused in found.refused] == [("stack", True)]


@pytest.mark.parametrize("device", device_names())
def test_devices_price_recurrent_layers_or_refuse_by_name(device: str) -> None:
    layers = trace_layers(Read(nn.LSTM(16, 32, 2, batch_first=True)), torch.zeros(1, 7, 16))
    accelerator = load_accelerator(device)
    if device.startswith("mcu"):
        with pytest.raises(UnsupportedError, match=r"stack\.hh_l0"):
            accelerator.table(layers)
        return
    latency_s = accelerator.table(layers).latency_s
    assert latency_s is not None
    assert (latency_s[:, width_index(8), width_index(8)] > 0).all()


def quantized(model: nn.Module, x: Tensor, bits: tuple[int | None, int | None]) -> tuple[QuantizedModel, Quantizers]:
    found = trace(model, x[:1])
    quantizers = Quantizers(model, found, lambda: [x], QuantizerOptions(method="max"))
    result, count = QuantizedModel(model, found, quantizers), len(found.layers)
    result.set_bits([bits[0]] * count, [bits[1]] * count)
    return result, quantizers


@torch.no_grad()
def test_weights_inputs_and_states_are_quantized() -> None:
    model, x = nn.RNN(4, 3, batch_first=True, bias=False).eval(), torch.randn(2, 5, 4)
    result, quantizers = quantized(model, x, (3, 4))

    def rounded(values: Tensor, layer: int) -> Tensor:
        q = quantizers.activation(layer, 4)
        assert q is not None
        return fake_quantize(values, torch.tensor(q.scale), q.zero_point, q.q_min, q.q_max)

    state = torch.zeros(2, 3)
    for step in x.unbind(1):
        product = rounded(step, 0) @ quantizers.weight(0, 3).T + rounded(state, 1) @ quantizers.weight(1, 3).T
        state = product.tanh()
    torch.testing.assert_close(result(x)[1][0], state)
    assert not torch.allclose(state, model(x)[1][0], atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("name", STACKS)
def test_error_decreases_with_bits(name: str) -> None:
    model, x = STACKS[name]().eval(), torch.randn(3, 6, 4)
    errors = []
    for bits in (None, 8, 5, 3):
        result, _ = quantized(model, x, (bits, bits))
        errors.append(float((result(x)[0] - model(x)[0]).norm()))
    assert errors[0] < 1e-5
    assert errors == sorted(errors)


@torch.no_grad()
def test_sequences_of_other_length_are_quantized() -> None:
    model = Read(nn.GRU(4, 6, batch_first=True)).eval()
    result, _ = quantized(model, torch.randn(3, 4, 4), (2, None))
    x = torch.randn(3, 9, 4)
    weights = {name: value.clone() for name, value in model.named_parameters()}
    expected = result(x)
    for layer, name in enumerate(("stack.weight_ih_l0", "stack.weight_hh_l0", "head.weight")):
        weights[name] = result.quantizers.weight(layer, 2)
    torch.testing.assert_close(torch.func.functional_call(model, weights, (x,)), expected)


@torch.no_grad()
def test_calibration_includes_states_of_all_steps() -> None:
    model, x = Read(nn.RNN(4, 6, batch_first=True)).eval(), torch.randn(3, 5, 4)
    seen: list[Call] = []

    class Record(MultiplicationMode):
        def weighted(self, call: Call) -> Tensor:
            seen.append(call)
            return super().weighted(call)

    with Record():
        model(x)
    histogram = calibrate(model, trace(model, x[:1]), [x]).histograms[1, "input"]
    assert histogram is not None
    states = torch.cat([call.input for call in seen if call.operation.kind == "recurrent"])
    assert histogram.count == states.numel() == 3 * 5 * 6
    assert [call.continues for call in seen] == [False, False, True, True, True, True, False]


@torch.no_grad()
def test_corrections_do_not_apply_to_steps() -> None:
    model, x = Read(nn.GRU(4, 6, batch_first=True)).eval(), torch.randn(8, 5, 4)
    result, _ = quantized(model, x, (2, 4))
    biases = TorchEngine(result, x).corrections(((2, 2, 2), (4, 4, 4))).biases
    assert sorted(biases) == [0, 2]


@torch.no_grad()
def test_integer_graph_refuses_recurrence_and_accepts_loop(*, has_exact_kernels: bool) -> None:
    x = torch.randn(4, 3, 4)
    result, _ = quantized(Read(nn.LSTM(4, 6, batch_first=True)).eval(), x, (8, 8))
    with pytest.raises(NotExportableError, match=r"stack\.hh_l0"):
        OnnxEngine(result, trace(result.model, x[:1]), x[:1], reference=TorchEngine(result))
    looped, _ = quantized(Loop().eval(), x, (8, 8))
    reference = TorchEngine(looped)
    bits = ((4,) * 7, (6,) * 7)
    engine = OnnxEngine(looped, trace(looped.model, x[:1]), x[:1], reference=reference)
    found = engine.runner(bits)(x)
    if has_exact_kernels:
        torch.testing.assert_close(found, reference.runner(bits)(x), rtol=0, atol=0.02)
