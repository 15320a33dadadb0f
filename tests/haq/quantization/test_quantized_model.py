"""A policy on a network: the arithmetic of a layer by hand, what is computed once, and that nothing is left behind."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.errors import UserError
from haq.network.layers import Trace, trace
from haq.network.models.digits_cnn import DigitsCNN
from haq.quantization import layer_weights, quantizers
from haq.quantization.calibration_pass import calibrate
from haq.quantization.options import QuantizerOptions
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.quantization.range import fake_quantize
from haq.runs.run_folder import QUANTIZERS
from haq.runs.tensor_files import load_tensors, save_tensors
from hardware_sim.cost import Bits


class Tied(nn.Module):
    """One layer used twice, and its weights a third time by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.last = nn.Linear(6, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.twice(torch.relu(self.twice(x))))
        scores: Tensor = self.last(F.linear(y, self.twice.weight))
        return scores


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.mix = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        scores: Tensor = self.head(self.mix(x, x, x, need_weights=False)[0].mean(dim=1))
        return scores


def two_layers() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(48, 4))


def upsampling() -> nn.Module:
    return nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.ReLU(), nn.Conv2d(6, 2, 1))


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "two layers": (two_layers, lambda: torch.randn(5, 2, 4, 4)),
    "digits": (DigitsCNN, lambda: torch.rand(5, 1, 16, 16)),
    "tied": (Tied, lambda: torch.randn(5, 6)),
    "attention": (Attention, lambda: torch.arange(20).view(5, 4) % 11),
    "grouped transposed": (upsampling, lambda: torch.randn(5, 4, 4, 4)),
}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        yield


def built(name: str) -> tuple[nn.Module, Tensor]:
    network, inputs = NETWORKS[name]
    return network().eval(), inputs()


def quantized(model: nn.Module, x: Tensor, **options: Any) -> tuple[QuantizedModel, Trace]:
    traced = trace(model, x[:1])
    return QuantizedModel(model, traced, Quantizers(model, traced, lambda: [x], QuantizerOptions(**options))), traced


def same_bits(traced: Trace, w_bits: Bits, a_bits: Bits) -> tuple[list[Bits], list[Bits]]:
    return [w_bits] * len(traced.layers), [a_bits] * len(traced.layers)


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Everything that a policy could have changed, with tensors as bytes and by identity."""
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    modules = dict(model.named_modules())
    hooks = {
        f"{name}.{key}": list(value.items())
        for name, module in modules.items()
        for key, value in vars(module).items()
        if "hook" in key and isinstance(value, dict)
    }
    return {
        "bytes": {name: tensor.numpy(force=True).tobytes() for name, tensor in tensors.items()},
        "identity": {name: (id(tensor), tensor.data_ptr(), tensor._version) for name, tensor in tensors.items()},
        "grad": {name: (tensor.requires_grad, tensor.grad) for name, tensor in tensors.items()},
        "hooks": hooks,
        "attributes": {name: sorted(vars(module)) for name, module in modules.items()},
        "forward": {name: module.forward.__func__ for name, module in modules.items()},
        "training": {name: module.training for name, module in modules.items()},
    }


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"digits"}))
def test_a_policy_leaves_nothing_behind(name: str) -> None:
    """In training mode too; a batch norm would then take note of what it sees, with or without a policy."""
    model, x = built(name)
    model.train()
    next(model.children()).eval()
    before, float_outputs = snapshot(model), copy.deepcopy(model).eval()(x)
    policy, traced = quantized(model, x)
    for w_bits, a_bits in ((2, 3), (8, 8), (None, 2)):
        policy.set_bits(*same_bits(traced, w_bits, a_bits))
        assert not torch.equal(policy(x), float_outputs)
    del policy
    assert snapshot(model) == before
    assert torch.equal(model.eval()(x), float_outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_in_evaluation_mode_nothing_at_all_changes(name: str) -> None:
    model, x = built(name)
    model.register_forward_hook(lambda *_: None)
    before, float_outputs = snapshot(model), model(x)
    policy, traced = quantized(model, x)
    policy.set_bits(*same_bits(traced, 3, 4))
    policy(x)
    assert snapshot(model) == before
    assert torch.equal(model(x), float_outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_failing_forward_pass_leaves_nothing_behind_either(name: str) -> None:
    model, x = built(name)
    policy, traced = quantized(model, x)
    policy.set_bits(*same_bits(traced, 3, 4))
    expected, before = policy(x), snapshot(model)
    with pytest.raises((RuntimeError, IndexError, TypeError, ValueError, AssertionError)):
        policy(torch.full((1, 1, 1, 1, 1, 1), 10**6))
    assert snapshot(model) == before
    assert torch.equal(policy(x), expected)


@pytest.mark.parametrize("name", NETWORKS)
def test_bits_of_none_leave_the_network_in_float(name: str) -> None:
    model, x = built(name)
    policy, traced = quantized(model, x)
    policy.set_bits(*same_bits(traced, None, None))
    # Without anyone looking on, attention runs as one kernel that rounds otherwise.
    torch.testing.assert_close(policy(x), model(x), rtol=0, atol=1e-6 if name == "attention" else 0)


def round_half_even(x: Any) -> Any:
    return np.rint(x)


def test_two_layers_by_hand() -> None:
    """4 and 3 bits for the weights, 5 and 2 for the inputs, all clips at the largest value."""
    model, x = built("two layers")
    conv, linear = model[0], model[3]
    policy, _ = quantized(model, x, method="max")
    policy.set_bits([4, 3], [5, 2])

    def weight(w: Tensor, steps: int) -> Tensor:
        scale = w.abs().flatten(1).amax(dim=1).view(-1, *[1] * (w.ndim - 1)) / steps
        return torch.from_numpy(round_half_even((w / scale).numpy())) * scale

    def codes(values: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
        return torch.from_numpy(round_half_even((values / scale).numpy())).clamp(low, high) * scale

    x_scale = x.abs().max() / 15  # five signed bits: -16 to 15
    hidden = torch.relu(F.conv2d(codes(x, x_scale, -16, 15), weight(conv.weight, 7), conv.bias, padding=1)).flatten(1)
    # The second layer's range was seen in the float network: two unsigned bits, 0 to 3.
    h_scale = torch.relu(conv(x)).max() / 3
    expected = F.linear(codes(hidden, h_scale, 0, 3), weight(linear.weight, 3), linear.bias)
    torch.testing.assert_close(policy(x), expected, rtol=0, atol=1e-6)


def test_a_transposed_convolution_has_a_scale_for_every_output_channel_of_a_group() -> None:
    model, x = built("grouped transposed")
    policy, _ = quantized(model, x, method="max")
    codes = policy.quantizers.codes(0, 3)
    weight = model[0].weight  # [4 inputs, 3 outputs of each group, 3, 3]
    torch.testing.assert_close(codes.scale, weight.abs().amax(dim=(0, 2, 3)) / 3)
    policy.set_bits([3, None], [None, None])
    expected = model[2](torch.relu(F.conv_transpose2d(x, codes.dequantize(), model[0].bias, stride=2, groups=2)))
    assert torch.equal(policy(x), expected)


def test_attention_is_quantized_inside_and_token_numbers_are_not() -> None:
    model, x = built("attention")
    policy, traced = quantized(model, x)
    names = [layer.name for layer in traced.layers]
    assert names == ["embed", "mix.in_proj", "mix.qk", "mix.pv", "mix.out_proj", "head"]
    assert policy.quantizers.activation(0, 4) is None
    policy.set_bits([4] + [None] * 5, [4] + [None] * 5)
    by_hand = copy.deepcopy(model)
    by_hand.embed.weight.copy_(policy.quantizers.weight(0, 4))
    torch.testing.assert_close(policy(x), by_hand(x))
    policy.set_bits([None, 4, None, None, 4, None], [None] * 6)
    by_hand = copy.deepcopy(model)
    by_hand.mix.in_proj_weight.copy_(policy.quantizers.weight(1, 4))
    by_hand.mix.out_proj.weight.copy_(policy.quantizers.weight(4, 4))
    torch.testing.assert_close(policy(x), by_hand(x))


class GivenAttention(nn.Module):
    """Attention of queries, keys and values that are given."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.scale * F.scaled_dot_product_attention(q, k, v)


def test_attention_by_hand() -> None:
    """Both operands of both products on grids of their own, all clips at the largest value."""
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 2, n, 4, generator=generator) for n in (3, 5, 5))
    v = v.abs()
    model = GivenAttention().eval()
    traced = trace(model, (q, k, v))
    policy = QuantizedModel(
        model, traced, Quantizers(model, traced, lambda: [(q, k, v)], QuantizerOptions(method="max"))
    )
    assert [layer.name for layer in traced.layers] == ["qk", "pv"]
    policy.set_bits([4, 3], [5, 2])

    def rounded(x: Tensor, steps: int, low: int, peak: Tensor) -> Tensor:
        scale = peak / steps
        return torch.from_numpy(round_half_even((x / scale).numpy())).clamp(low, steps) * scale

    scores = rounded(q, 15, -16, q.abs().max()) @ rounded(k, 7, -8, k.abs().max()).mT / 2
    # The range of the attention weights was seen in the float network: two unsigned bits.
    weights = rounded(scores.softmax(-1), 3, 0, (q @ k.mT / 2).softmax(-1).max())
    torch.testing.assert_close(policy(q, k, v), weights @ rounded(v, 7, 0, v.max()))
    names = {name for name in policy.quantizers.tensors([4, 3], [5, 2]) if name.endswith("scale")}
    assert names == {"qk.input.scale", "qk.second_input.scale", "pv.input.scale", "pv.second_input.scale"}


def test_tied_layers_share_weights_and_have_inputs_of_their_own() -> None:
    model, x = built("tied")
    policy, traced = quantized(model, x)
    assert [layer.tied_to for layer in traced.layers] == [None, "twice", "twice", None]
    quantizers = policy.quantizers
    assert quantizers.weight(1, 4) is quantizers.weight(0, 4)
    scales = {found.scale for layer in range(3) if (found := quantizers.activation(layer, 4))}
    assert len(scales) == 3
    policy.set_bits(*same_bits(traced, 4, None))
    by_hand = copy.deepcopy(model)
    by_hand.twice.weight.copy_(quantizers.weight(0, 4))
    by_hand.last.weight.copy_(quantizers.weight(3, 4))
    torch.testing.assert_close(policy(x), by_hand(x))


class Counter:
    """Calls through to a function and counts."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.function(*args, **kwargs)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Counter]:
    def watch(name: str) -> Counter:
        user = next(module for module in (quantizers, layer_weights) if hasattr(module, name))
        counter = Counter(getattr(user, name))
        monkeypatch.setattr(user, name, counter)
        return counter

    return watch


@pytest.mark.parametrize("name", NETWORKS)
def test_no_weight_is_quantized_twice_and_nothing_calibrated_again(name: str, count: Callable[[str], Counter]) -> None:
    clips, codes, passes, scales = map(
        count, ("weight_clips", "quantize_to_clips", "calibrate", "activation_quantizer")
    )
    model, x = built(name)
    policy, traced = quantized(model, x)
    own = sum(layer.tied_to is None and layer.kind != "matmul" for layer in traced.layers)
    for _ in range(3):
        for bits in (2, 5, 8):
            policy.set_bits(*same_bits(traced, bits, bits))
            policy(x)
            policy(x)
    inputs = sum(policy.quantizers.activation(layer, 2) is not None for layer in range(len(traced.layers)))
    assert (clips.calls, codes.calls, passes.calls) == (own, 3 * own, 1)
    second_inputs = sum(layer.kind == "matmul" for layer in traced.layers)
    assert scales.calls == 3 * (inputs + second_inputs)


def test_activations_in_float_need_no_calibration(count: Callable[[str], Counter]) -> None:
    passes = count("calibrate")
    model, x = built("digits")
    policy, traced = quantized(model, x)
    policy.set_bits(*same_bits(traced, 4, None))
    policy(x)
    assert passes.calls == 0


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("bits", [1, 3, 8])
def test_stored_quantizers_give_the_same_outputs_without_calibration(
    name: str, bits: int, count: Callable[[str], Counter], tmp_path: Path
) -> None:
    model, x = built(name)
    policy, traced = quantized(model, x)
    chosen = same_bits(traced, bits, bits)
    policy.set_bits(*chosen)
    save_tensors(tmp_path / QUANTIZERS, policy.quantizers.tensors(*chosen))
    expected, stored = policy(x), load_tensors(tmp_path / QUANTIZERS) or {}
    clips, passes = count("weight_clips"), count("calibrate")
    again, _ = quantized(model, x)
    again.quantizers.load(stored, *chosen)
    again.set_bits(*chosen)
    assert torch.equal(again(x), expected)
    assert (clips.calls, passes.calls) == (0, 0)


def test_layers_in_float_have_nothing_to_store() -> None:
    model, x = built("two layers")
    policy, _ = quantized(model, x)
    chosen = ([None, 4], [4, None])
    stored = policy.quantizers.tensors(*chosen)
    parts = ("scale", "zero_point", "range")
    assert stored.keys() == {f"{place}.{part}" for place in ("0.input", "3.weight") for part in parts}
    assert stored["3.weight.range"].tolist() == [-7, 7]
    policy.quantizers.load(stored, *chosen)


def test_stored_quantizers_of_something_else_are_refused() -> None:
    model, x = built("two layers")
    policy, traced = quantized(model, x)
    stored = policy.quantizers.tensors(*same_bits(traced, 4, 4))
    with pytest.raises(KeyError, match="weight"):
        policy.quantizers.load({}, *same_bits(traced, 4, 4))
    with pytest.raises(ValueError, match="3 output channels need as many scales, not 2"):
        policy.quantizers.load({**stored, "0.weight.scale": torch.ones(2)}, *same_bits(traced, 4, 4))
    with pytest.raises(ValueError, match="exceed 3 bits"):
        policy.quantizers.load(stored, *same_bits(traced, 4, 3))


def test_inputs_are_unsigned_only_where_calibration_saw_no_negative_value() -> None:
    model, x = built("two layers")
    quantizers = quantized(model, x)[0].quantizers
    signed, unsigned = quantizers.activation(0, 4), quantizers.activation(1, 4)
    assert signed is not None
    assert unsigned is not None
    assert (signed.q_min, signed.q_max) == (-8, 7)
    assert (unsigned.q_min, unsigned.q_max) == (0, 15)
    hidden = torch.relu(model[0](x))
    expected = fake_quantize(hidden, torch.tensor(unsigned.scale), 0, 0, 15)
    assert torch.equal(quantizers.input(hidden, 1, 4), expected)


def test_bits_of_another_network_are_refused() -> None:
    model, x = built("two layers")
    with pytest.raises(ValueError, match="2 layers need as many bits, got 3 and 2"):
        quantized(model, x)[0].set_bits([8, 8, 8], [8, 8])


def test_activations_that_are_not_finite_are_named() -> None:
    model, x = built("two layers")
    traced = trace(model, x[:1])
    with pytest.raises(UserError, match=r"input of layer '0'.*NaN or infinite"):
        calibrate(model, traced, [torch.full_like(x, torch.inf)])
