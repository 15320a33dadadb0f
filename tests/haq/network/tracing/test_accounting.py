"""All products and weights of a network are in a layer or refused by name."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.ops import deform_conv2d

from haq.costs.unpriced import Refused
from haq.errors import UserError
from haq.network.layers import Trace, trace

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning", "ignore:.*torch.jit.*:DeprecationWarning")


class Weighted(nn.Module):
    """Network with parameters `a`, `b`, ..., a linear layer, and a forward function given by a test."""

    def __init__(self, forward: Callable[..., Tensor], *shapes: tuple[int, ...], features: int = 6) -> None:
        super().__init__()
        for name, shape in zip("abcd", shapes, strict=False):
            setattr(self, name, nn.Parameter(torch.rand(*shape)))
        self.fc = nn.Linear(features, 3)
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


def refused(traced: Trace) -> dict[str, int | None]:
    return {each.name: each.macs for each in traced.refused}


X = torch.rand(1, 6)
MAP = torch.rand(1, 2, 3, 3)


@pytest.mark.parametrize(
    ("forward", "shapes", "expected"),
    [
        (lambda m, x: m.fc(torch.inner(x, m.a)), [(6, 6)], {"a": 36}),
        (lambda m, x: m.fc(torch.einsum("bi,ij->bj", x, m.a)), [(6, 6)], {"einsum": 36}),
        (lambda m, x: m.fc(torch.linalg.multi_dot([x, m.a, m.b])), [(6, 2), (2, 6)], {"a": 12, "b": 12}),
        (lambda m, x: m.fc(torch.chain_matmul(x, m.a, m.b)), [(6, 2), (2, 6)], {"a": 12, "b": 12}),
        (lambda m, x: m.fc(torch.mv(m.a, x[0])[None]), [(6, 6)], {"a": 36}),
        (lambda m, x: m.fc(torch.addmv(m.b, m.a, x[0])[None]), [(6, 6), (6,)], {"a": 36}),
        (lambda m, x: m.fc(x) * torch.dot(x[0], m.a), [(6,)], {"a": 6}),
        (lambda m, x: m.fc(x * F.linear(x, m.a)[:, None]), [(6,)], {"a": 6}),
        (lambda m, x: m.fc(x + torch.ops.aten.mm.default(x, m.a)), [(6, 6)], {"a": 36}),
        # A slice, a transpose, and what is computed from weights alone.
        (lambda m, x: m.fc(torch.inner(x, m.a[2:, 1:7])[:, :6]), [(9, 8)], {"a": 42}),
        (lambda m, x: m.fc(torch.inner(x, m.a.t())), [(6, 6)], {"a": 36}),
        (lambda m, x: m.fc(torch.inner(x, (m.a * m.b).tanh())), [(6, 6), (6, 1)], {"a": 36}),
        # No product with a quantized form at all.
        (lambda m, x: m.fc(x + m.a), [(1, 6)], {"a": None}),
        (lambda m, x: m.fc(torch.kron(x, m.a)), [(1, 1)], {"a": None}),
        (lambda m, x: m.fc(x + torch.outer(x[0], m.a[0]).sum(0)), [(6, 6)], {"a": None}),
        (lambda m, x: m.fc(x), [(6, 6)], {"a": None}),
    ],
)
def test_parameters_outside_of_layers_are_refused_with_macs(
    forward: Callable[..., Tensor], shapes: list[tuple[int, ...]], expected: dict[str, int | None]
) -> None:
    traced = trace(Weighted(forward, *shapes), X)
    assert [layer.name for layer in traced.layers] == ["fc"]
    assert refused(traced) == expected


def test_deformable_convolution_is_refused() -> None:
    def forward(m: Weighted, x: Tensor) -> Tensor:
        offsets = torch.zeros(1, 18, 3, 3)
        return m.fc(deform_conv2d(x, offsets, m.a, padding=1).flatten(1))

    traced = trace(Weighted(forward, (4, 2, 3, 3), features=36), MAP)
    assert refused(traced) == {"a": 9 * 4 * 2 * 9}


def test_unused_parameters_differ_from_added_ones() -> None:
    traced = trace(Weighted(lambda m, x: m.fc(x + m.a.expand(1, 6)), (1, 6), (2, 3)), X)
    assert [str(each) for each in traced.refused] == [
        "a: is read by add, not by a layer",
        "b: was not seen to be used on the example input; other inputs may use it, in float",
    ]


def test_unused_part_of_parameter_is_refused() -> None:
    def forward(m: Weighted, x: Tensor) -> Tensor:
        return m.fc(F.linear(x, m.a[1]) + F.linear(x, m.a[2]) + F.linear(x, m.b[:4]).sum() + F.linear(x, m.b[2:]).sum())

    traced = trace(Weighted(forward, (3, 6, 6), (8, 6)), X)
    assert [layer.name for layer in traced.layers] == ["a[1]", "a[2]", "b[0:4]", "b[2:8]", "fc"]
    assert traced.refused == (Refused("a", "36 of its 108 weights are in no layer"),)


def test_products_in_scripted_modules_are_refused_by_layer() -> None:
    body = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3, 6))
    traced = trace(nn.Sequential(nn.Conv2d(2, 2, 1), torch.jit.script(body), nn.Linear(6, 2)), MAP)
    assert [layer.name for layer in traced.layers] == ["0", "2"]
    assert refused(traced) == {"1.0": 2 * 3 * 9, "1.3": 3 * 6}
    assert traced.layers[1].input_tensors == (1,)


class Steps(nn.Module):
    """Convolutions with a shortcut around the second."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.act = act
        self.a, self.b, self.c = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.a(x))
        result: Tensor = self.c(self.act(self.b(x) + x))
        return result


class Gram(nn.Module):
    """Products of all rows."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.mm(x[0], x[0].t())


class Clamp(torch.autograd.Function):
    """Custom autograd function."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)


class InNumpy(nn.Module):
    """Activation computed with NumPy."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy().clip(0))


def flat_relu(x: Tensor) -> Tensor:
    return torch.relu(x.flatten()).view(x.shape)


@pytest.mark.parametrize(
    "act",
    [
        lambda: torch.jit.script(nn.ReLU()),
        lambda: torch.jit.script(nn.ReLU(inplace=True)),
        lambda: torch.jit.trace(nn.ReLU(), MAP),
        lambda: torch.jit.script(flat_relu),
        lambda: Clamp.apply,
        InNumpy,
    ],
    ids=["scripted", "in place", "traced", "scripted function", "autograd function", "numpy"],
)
def test_layers_are_linked_through_opaque_functions(act: Callable[[], Any]) -> None:
    assert trace(Steps(act()), MAP).layers == trace(Steps(nn.ReLU()), MAP).layers


class Inference(Steps):
    """Network that runs in inference mode, where composite functions are not decomposed before dispatch."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            return super().forward(x) @ torch.eye(3)


def test_inference_mode_does_not_change_trace() -> None:
    traced = trace(Inference(nn.ReLU()), MAP)
    assert traced.layers == trace(Steps(nn.ReLU()), MAP).layers
    assert refused(traced) == {"matmul": 2 * 3 * 3 * 3}


def test_products_of_activations_in_scripted_modules_are_refused_with_macs() -> None:
    traced = trace(nn.Sequential(nn.Linear(6, 6), torch.jit.script(Gram()), nn.Linear(2, 6)), torch.rand(1, 2, 6))
    assert [layer.name for layer in traced.layers] == ["0", "2"]
    assert [str(each) for each in traced.refused] == [
        "1: multiplies two activations in mm, which has no quantized form (24 MACs)"
    ]


def total_macs(model: nn.Module, example: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(example)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    ("model", "example"),
    [
        (Steps(torch.jit.script(nn.ReLU())), MAP),
        (nn.Sequential(nn.Conv3d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2)), torch.rand(1, 1, 3, 3, 3)),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)), nn.Linear(6, 2)), X),
        (Weighted(lambda m, x: m.fc(x) @ m.fc(x).t() + torch.inner(x, m.a).sum(), (6, 6)), X),
    ],
    ids=["scripted", "three dimensions", "weight norm", "products"],
)
def test_macs_of_layers_and_refusals_equal_torch_counter(model: nn.Module, example: Tensor) -> None:
    traced = trace(model.eval(), example)
    in_float = sum(each.macs or 0 for each in traced.refused)
    assert sum(layer.macs for layer in traced.layers) + in_float == total_macs(model, example)


def test_computed_weights_account_for_their_parameters() -> None:
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)), nn.Linear(6, 2))
    assert refused(trace(model, X)) == {"0": 36}


class Clash(nn.Module):
    """Layer, and parameters whose names without `weight` equal the name of the layer."""

    def __init__(self) -> None:
        super().__init__()
        self.proj_weight, self.weight_proj = (nn.Parameter(torch.rand(6, 6)) for _ in range(2))
        self.proj, self.other_weight = nn.Linear(6, 6), nn.Parameter(torch.rand(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        for weight in (self.proj_weight, self.weight_proj, self.other_weight):
            x = F.linear(x, weight)
        result: Tensor = self.proj(self.proj(x))
        return result


def test_equal_short_names_are_replaced_by_full_names() -> None:
    names = [layer.name for layer in trace(Clash(), X).layers]
    assert names == ["proj_weight", "weight_proj", "other", "proj", "proj:2"]


def test_error_in_tracing_is_not_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> str:
        raise ValueError("wrong kind")

    monkeypatch.setattr("haq.network.layers.layer_kind", fails)
    with pytest.raises(ValueError, match=r"^wrong kind") as caught:
        trace(nn.Sequential(nn.Linear(6, 6)), X)
    assert not isinstance(caught.value, UserError)
    assert "error in haq" in caught.value.__notes__[0]


def test_long_network_error_is_shortened() -> None:
    def forward(_: Weighted, x: Tensor) -> Tensor:
        del x
        raise RuntimeError("no\nroom " * 1000)

    with pytest.raises(UserError, match="does not run on an input of shape") as caught:
        trace(Weighted(forward), X)
    assert len(str(caught.value)) < 500
    assert "\n" not in str(caught.value)
