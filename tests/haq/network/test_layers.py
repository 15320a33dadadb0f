"""Traced layers of networks, compared with counts by hand."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.modules import module as module_globals
from torch.nn.utils.parametrizations import weight_norm
from torchvision import models

from haq.errors import UserError
from haq.network.layer_calls import CallCount, LayerCalls, LayerIndex, untraced_text
from haq.network.layers import Trace, trace, trace_layers
from haq.network.tracing.products import ActivationProduct
from haq.network.tracing.weighted_calls import WeightSlice
from hardware_sim.layer import Layer
from hardware_sim.networks import NETWORKS


def only(model: nn.Module, example: Tensor) -> Layer:
    (layer,) = trace_layers(model, example)
    return layer


def reasons(traced: Trace) -> dict[str, str]:
    return {refused.name: refused.reason for refused in traced.refused}


IMAGE = torch.zeros(1, 4, 9, 7)


@pytest.mark.parametrize(
    ("conv", "expected", "macs"),
    [
        # 3 x 3 without padding: 7 x 5 outputs.
        (nn.Conv2d(4, 6, 3), {"kind": "conv", "output_size": (7, 5)}, 7 * 5 * 4 * 6 * 9),
        (nn.Conv2d(4, 6, 3, padding="same"), {"kind": "conv", "output_size": (9, 7)}, 63 * 4 * 6 * 9),
        (nn.Conv2d(4, 6, (1, 3), stride=(2, 1)), {"kernel": (1, 3), "stride": (2, 1)}, 5 * 5 * 4 * 6 * 3),
        (nn.Conv2d(4, 6, 3, groups=2), {"kind": "conv", "groups": 2}, 35 * 4 * 6 * 9 // 2),
        (nn.Conv2d(4, 4, 3, groups=4), {"kind": "depthwise", "c_in": 4, "c_out": 4}, 35 * 4 * 9),
        (nn.Conv2d(4, 8, 3, groups=4), {"kind": "depthwise", "c_in": 4, "c_out": 8}, 35 * 8 * 9),
        # Dilation 2 stretches the 3 x 3 kernel to 5 x 5: 5 x 3 outputs.
        (nn.Conv2d(4, 6, 3, dilation=2), {"dilation": (2, 2), "output_size": (5, 3)}, 15 * 4 * 6 * 9),
        # (9 - 1) * 2 + 3 = 19 and (7 - 1) * 2 + 3 = 15; every input position meets every weight.
        (
            nn.ConvTranspose2d(4, 6, 3, stride=2),
            {"kind": "conv_transpose", "c_in": 4, "c_out": 6, "output_size": (19, 15)},
            63 * 4 * 6 * 9,
        ),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), {"c_in": 4, "c_out": 6, "groups": 2}, 63 * 4 * 6 * 9 // 2),
    ],
)
def test_convolutions_of_images(conv: nn.Module, expected: dict[str, Any], macs: int) -> None:
    layer = only(nn.Sequential(conv), IMAGE)
    assert {key: getattr(layer, key) for key in expected} == expected
    assert layer.macs == macs
    assert layer.weight_count == conv.weight.numel()
    assert layer.input_size == (9, 7)


def test_one_dimensional_convolutions_have_height_one() -> None:
    layer = only(nn.Sequential(nn.Conv1d(4, 6, 5, stride=2, dilation=2)), torch.zeros(1, 4, 30))
    # 5 taps, 2 apart, span 9 of 30: 22 places, every second one.
    assert (layer.kernel, layer.stride, layer.dilation) == ((1, 5), (1, 2), (1, 2))
    assert (layer.input_size, layer.output_size) == ((1, 30), (1, 11))
    assert layer.macs == 11 * 4 * 6 * 5
    transposed = only(nn.Sequential(nn.ConvTranspose1d(4, 6, 5, stride=2)), torch.zeros(1, 4, 10))
    assert (transposed.kind, transposed.output_size) == ("conv_transpose", (1, 23))


def test_several_maps_per_item_are_stacked() -> None:
    conv = nn.Conv2d(4, 6, 3, padding=1, stride=(1, 2))
    regions = Wired(lambda m, x: m.conv(x.expand(5, -1, -1, -1)), conv=conv)
    layer = only(regions, IMAGE)
    assert (layer.input_size, layer.output_size) == ((5 * 9, 7), (5 * 9, 4))
    assert layer.macs == 5 * only(nn.Sequential(conv), IMAGE).macs
    unbatched = Wired(lambda m, x: m.conv(x[0]), conv=nn.Conv2d(4, 6, 1))
    assert only(unbatched, IMAGE).output_size == (9, 7)


def test_non_zero_padding_counts_as_input() -> None:
    layer = only(nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect")), IMAGE)
    assert (layer.input_size, layer.output_size) == ((11, 9), (9, 7))


def test_three_dimensional_convolutions_are_refused_by_name() -> None:
    model = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2))
    traced = trace(model, torch.zeros(1, 1, 3, 3, 3))
    assert [layer.name for layer in traced.layers] == ["2"]
    assert "three-dimensional" in reasons(traced)["0"]


def test_linear_layer_macs_include_sequence_positions() -> None:
    model = nn.Sequential(nn.Linear(6, 10))
    assert (only(model, torch.zeros(1, 6)).macs, only(model, torch.zeros(1, 6)).output_size) == (60, (1, 1))
    layer = only(model, torch.zeros(1, 3, 5, 6))
    assert (layer.output_size, layer.macs, layer.weight_count) == ((15, 1), 900, 60)


def test_embedding_inputs_are_its_vocabulary() -> None:
    layers = trace_layers(nn.Sequential(nn.Embedding(50, 8), nn.Linear(8, 3)), torch.zeros(1, 4, dtype=torch.long))
    assert [(layer.kind, layer.c_in, layer.c_out) for layer in layers] == [("embedding", 50, 8), ("linear", 8, 3)]
    assert [layer.macs for layer in layers] == [0, 4 * 24]
    assert layers[0].weight_count == 400


class Wired(nn.Module):
    """Network with a forward function given by a test."""

    def __init__(self, forward: Callable[["Wired", Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


def test_layers_are_in_order_of_execution() -> None:
    model = Wired(lambda m, x: m.first(m.second(x)), first=nn.Linear(4, 4), second=nn.Linear(4, 4))
    assert [layer.name for layer in trace_layers(model, torch.zeros(1, 4))] == ["second", "first"]


def test_further_calls_are_tied_layers_without_weights() -> None:
    model = Wired(lambda m, x: m.fc(m.other(m.fc(m.fc(x)))), fc=nn.Linear(4, 4), other=nn.Linear(4, 4))
    layers = trace_layers(model, torch.zeros(1, 4))
    assert [layer.name for layer in layers] == ["fc", "fc:2", "other", "fc:3"]
    assert [layer.tied_to for layer in layers] == [None, "fc", None, "fc"]
    assert [layer.weight_count for layer in layers] == [16, 0, 16, 0]
    assert [layer.macs for layer in layers] == [16] * 4


def test_module_with_two_names_is_one_layer() -> None:
    shared = nn.Linear(4, 4)
    layers = trace_layers(nn.Sequential(shared, nn.ReLU(), shared), torch.zeros(1, 4))
    assert [(layer.name, layer.tied_to) for layer in layers] == [("0", None), ("0:2", "0")]


def test_modules_that_share_a_parameter_are_tied() -> None:
    model = Wired(lambda m, x: m.head(m.embed(x)), embed=nn.Embedding(10, 4), head=nn.Linear(4, 10, bias=False))
    model.head.weight = model.embed.weight
    traced = trace(model, torch.zeros(1, 3, dtype=torch.long))
    assert [(layer.name, layer.kind, layer.tied_to) for layer in traced.layers] == [
        ("embed", "embedding", None),
        ("embed:2", "linear", "embed"),
    ]
    assert not traced.refused


def test_weight_used_by_parent_has_owner_name() -> None:
    model = Wired(lambda m, x: F.linear(x, weight=m.child.weight, bias=m.child.bias), child=nn.Linear(4, 5))
    traced = trace(model, torch.zeros(1, 4))
    assert [layer.name for layer in traced.layers] == ["child"]
    assert not traced.refused


def test_uncalled_modules_are_refused() -> None:
    def forward(m: Wired, x: Tensor) -> Tensor:
        return m.fc(x) @ m.fc(x).transpose(-1, -2)

    inner = Wired(forward, fc=nn.Linear(4, 4), spare=nn.Linear(4, 4), cell=nn.LSTMCell(4, 4), conv=nn.Conv1d(4, 4, 1))
    traced = trace(nn.Sequential(inner), torch.zeros(1, 2, 4))
    assert set(reasons(traced)) == {"0.spare", "0.cell", "0.conv"}
    assert "not called" in reasons(traced)["0.spare"]


def test_computed_weights_are_refused_and_later_layers_are_linked() -> None:
    model = nn.Sequential(nn.Linear(4, 4), weight_norm(nn.Linear(4, 4)), nn.Linear(4, 2))
    traced = trace(model, torch.zeros(1, 4))
    assert [layer.name for layer in traced.layers] == ["0", "2"]
    assert "computed" in reasons(traced)["1"]
    assert traced.layers[1].input_tensors == (1,)


@pytest.mark.parametrize("size", [(6, 4), (4, 4)])
def test_weights_that_another_layer_reads_transposed_are_refused(size: tuple[int, int]) -> None:
    model = Wired(lambda m, x: F.linear(m.encode(x), m.encode.weight.t()), encode=nn.Linear(*size))
    traced = trace(model, torch.zeros(1, size[0]))
    assert [layer.name for layer in traced.layers] == ["encode"]
    assert "encode.weight transposed" in reasons(traced)["linear"]
    counts: dict[WeightSlice | ActivationProduct, CallCount] = {}
    index = LayerIndex(model, traced.sites)
    with LayerCalls(index, lambda _, call: call.run(call.input, call.factor), counts=counts):
        model(torch.zeros(1, size[0]))
    assert untraced_text(model, counts) is None


def test_products_outside_of_layers_are_refused_by_name() -> None:
    model = Wired(lambda m, x: m.fc(m.bilinear(x, x)) @ m.fc.weight, bilinear=nn.Bilinear(4, 4, 3), fc=nn.Linear(3, 5))
    traced = trace(model, torch.zeros(1, 4))
    assert [layer.name for layer in traced.layers] == ["fc"]
    assert "bilinear.weight" in reasons(traced)["bilinear"]
    assert "fc.weight" in reasons(traced)["linear"]


def test_embedding_bags_are_refused_by_name() -> None:
    model = nn.Sequential(nn.EmbeddingBag(10, 4), nn.Linear(4, 2))
    refused = reasons(trace(model, torch.zeros(1, 3, dtype=torch.long)))
    assert set(refused) == {"0"}
    assert "not called" not in refused["0"]


def test_recurrent_layers_are_traced_between_others() -> None:
    model = Wired(
        lambda m, x: m.fc(m.cell(m.gru(m.lstm(x)[0])[0][0])),
        lstm=nn.LSTM(4, 3),
        gru=nn.GRU(3, 3),
        cell=nn.RNNCell(3, 3),
        fc=nn.Linear(3, 2),
    )
    traced = trace(model, torch.zeros(1, 5, 4))
    parts = ["lstm.ih_l0", "lstm.hh_l0", "gru.ih_l0", "gru.hh_l0", "cell.ih", "cell.hh", "fc"]
    assert [layer.name for layer in traced.layers] == parts
    assert traced.refused == ()


def test_self_attention_has_two_projections_and_two_products() -> None:
    model = Wired(lambda m, x: m.mha(x, x, x)[0], mha=nn.MultiheadAttention(8, 2, batch_first=True))
    traced = trace(model, torch.zeros(1, 5, 8))
    assert [(layer.name, layer.c_in, layer.c_out, layer.macs) for layer in traced.layers] == [
        ("mha.in_proj", 8, 24, 5 * 8 * 24),
        ("mha.qk", 8, 10, 2 * 5 * 5 * 4),
        ("mha.pv", 10, 8, 2 * 5 * 5 * 4),
        ("mha.out_proj", 8, 8, 5 * 64),
    ]
    assert traced.refused == ()


def test_cross_attention_layers_are_rows_of_the_projection() -> None:
    def forward(m: Wired, x: Tensor) -> Tensor:
        context = torch.cat([x, x, x], 1)
        return m.mha(x, context, context, need_weights=False)[0]

    traced = trace(Wired(forward, mha=nn.MultiheadAttention(8, 2, batch_first=True)), torch.zeros(1, 5, 8))
    assert [(layer.name, layer.macs) for layer in traced.layers] == [
        ("mha.in_proj[0:8]", 5 * 64),
        ("mha.in_proj[8:24]", 15 * 128),
        ("mha.qk", 2 * 5 * 15 * 4),
        ("mha.pv", 2 * 5 * 15 * 4),
        ("mha.out_proj", 5 * 64),
    ]
    assert sum(layer.weight_count for layer in traced.layers) == 4 * 64


def test_cross_attention_of_other_widths_has_separate_projections() -> None:
    def forward(m: Wired, x: Tensor) -> Tensor:
        return m.mha(x, x[..., :6], x[..., :6])[0]

    model = Wired(forward, mha=nn.MultiheadAttention(8, 2, kdim=6, vdim=6, batch_first=True))
    names = [layer.name for layer in trace_layers(model, torch.zeros(1, 5, 8))]
    assert names == ["mha.q_proj", "mha.k_proj", "mha.v_proj", "mha.qk", "mha.pv", "mha.out_proj"]


def test_transformer_fast_path_is_traced() -> None:
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2)
    names = [layer.name for layer in trace_layers(model, torch.zeros(1, 5, 8))]
    block = ["self_attn.in_proj", "self_attn.qk", "self_attn.pv", "self_attn.out_proj", "linear1", "linear2"]
    assert names == [f"layers.{number}.{name}" for number in range(2) for name in block]


def test_input_tensors_link_layers() -> None:
    def forward(m: Wired, x: Tensor) -> Tensor:
        shortcut = torch.relu(m.a(x))
        joined = torch.cat([shortcut, m.b(shortcut)], dim=1)
        return m.c(joined).add(F.interpolate(input=m.d(x), size=9))

    parts = {"a": (4, 4), "b": (4, 4), "c": (8, 2), "d": (4, 2)}
    model = Wired(forward, **{name: nn.Conv1d(*size, 1) for name, size in parts.items()})
    traced = trace(model, torch.zeros(1, 4, 9))
    assert [(layer.name, layer.input_tensors, layer.output_tensor) for layer in traced.layers] == [
        ("a", (0,), 1),
        ("b", (1,), 2),
        ("c", (1, 2), 3),
        ("d", (0,), 4),
    ]
    assert traced.heads == ("d",)


def test_several_outputs_give_several_heads() -> None:
    model = Wired(
        lambda m, x: {"boxes": [m.boxes(m.body(x)).relu()], "classes": (m.classes(m.body(x)),)},
        body=nn.Linear(4, 4),
        boxes=nn.Linear(4, 4),
        classes=nn.Linear(4, 3),
    )
    assert trace(model, torch.zeros(1, 4)).heads == ("boxes", "classes")


class Habits(nn.Module):
    """Network with state that a trace could change: batch norm, dropout, mixed modes, hooks, gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.ReLU(inplace=True))
        self.head = nn.Linear(4, 2)
        self.body[1].eval()
        self.head.register_forward_hook(lambda _module, _inputs, output: output + 1)
        self.body[0].weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def hooks(module: nn.Module) -> list[int]:
    return [len(value) for name, value in sorted(vars(module).items()) if name.endswith("_hooks")]


@pytest.mark.parametrize("fails", [False, True])
def test_trace_leaves_network_unchanged(fails: bool) -> None:
    model = Habits()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    hooked = [hooks(module) for module in model.modules()]
    attributes = [set(vars(module)) for module in model.modules()]
    everywhere = [len(value) for name, value in vars(module_globals).items() if name.startswith("_global_forward")]
    if fails:
        with pytest.raises(UserError):
            trace(model, torch.zeros(1, 9, 8, 8))
    else:
        trace(model, torch.randn(1, 3, 8, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert [hooks(module) for module in model.modules()] == hooked
    assert [set(vars(module)) for module in model.modules()] == attributes
    after = [len(value) for name, value in vars(module_globals).items() if name.startswith("_global_forward")]
    assert after == everywhere
    assert not model.body[0].weight.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())


def raises(error: Exception) -> nn.Module:
    def forward(_: Wired, x: Tensor) -> Tensor:
        del x
        raise error

    return Wired(forward)


@pytest.mark.parametrize(
    "error",
    [
        AssertionError("wrong image height!\nexpected 224"),
        KeyError("mask"),
        ZeroDivisionError("nothing left"),
        AssertionError(),
        NotImplementedError("later"),
        AttributeError("shape"),
    ],
)
def test_network_error_on_example_raises_one_line_user_error(error: Exception) -> None:
    with pytest.raises(UserError, match=r"does not run on an input of shape \(1, 3\): \S") as caught:
        trace(raises(error), torch.zeros(1, 3))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("model", [nn.ReLU(), nn.Sequential(weight_norm(nn.Linear(4, 4))), nn.Identity()])
def test_network_without_quantizable_layers_raises(model: nn.Module) -> None:
    with pytest.raises(UserError, match="no quantizable layer") as caught:
        trace(model, torch.zeros(1, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit_b_16"])
def test_macs_equal_fvcore(name: str) -> None:
    flop_count = pytest.importorskip("fvcore.nn")
    models = pytest.importorskip("torchvision.models")
    with torch.device("meta"):
        model, example = getattr(models, name)(), torch.zeros(1, 3, 224, 224)
    layers = trace_layers(model, example)
    # The other counter cannot run on shapes alone, and sees inside of attention only as it is computed in training.
    counted = flop_count.FlopCountAnalysis(model.to_empty(device="cpu").train(), torch.zeros(1, 3, 224, 224))
    counted = counted.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    by_operator = counted.by_operator()
    assert sum(layer.macs for layer in layers) == by_operator["conv"] + by_operator["linear"]
    weights = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim > 1)
    positions = sum(value.numel() for key, value in model.named_parameters() if key.endswith(("token", "embedding")))
    assert sum(layer.weight_count for layer in layers) == weights - positions


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
def test_layers_of_known_networks(name: str) -> None:
    with torch.device("meta"):
        network = models.get_model(name)
        found = trace_layers(network, torch.zeros(1, 3, 224, 224))
    assert found == NETWORKS[name]()


class Shortcuts(nn.Module):
    """Two sums, the second of three tensors, and a concatenation that is activated before it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = (nn.Linear(4, 4) for _ in range(4))
        self.e = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        a = torch.relu(self.a(x))
        b = self.b(a) + a
        c = self.c(b)
        d = torch.addcmul(b, c, torch.relu(self.d(c)))
        result: Tensor = self.e(torch.relu(torch.cat([d, c], 1)))
        return result


def test_shortcut_tensors_are_held_until_added() -> None:
    layers = {layer.name: layer for layer in trace_layers(Shortcuts(), torch.zeros(1, 4))}
    assert {name: layer.held_tensors for name, layer in layers.items()} == {
        "a": (),
        "b": (1,),
        "c": (),
        "d": (2, 3),
        "e": (),
    }
    assert [layer.input_tensors for layer in layers.values()] == [(0,), (1,), (2,), (3,), (3, 4)]


def test_names_that_would_break_a_line_are_refused() -> None:
    model = Wired(lambda m, x: getattr(m, "a\nb")(x), **{"a\nb": nn.Conv2d(4, 6, 1)})
    with pytest.raises(UserError, match=r"the name of layer 'a\\nb' has unprintable characters"):
        trace(model, IMAGE)
