"""Products of two activations: which are layers, their sizes, and attention in separate steps."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from haq.network.layer_calls import LayerCalls, LayerIndex
from haq.network.layers import Trace, trace
from haq.network.tracing.attention import QK, attention_product
from haq.network.tracing.call_mode import MultiplicationMode
from haq.network.tracing.products import PRODUCT, ProductSizes, product_sizes
from haq.network.tracing.running_modules import RunningModules
from haq.network.tracing.weighted_calls import Call


class Wired(nn.Module):
    """Network of two linear layers with a forward function given by a test."""

    def __init__(self, forward: Callable[["Wired", Tensor], Any]) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(4, 4), nn.Linear(4, 4)
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


X = torch.linspace(-1, 1, 12).reshape(1, 3, 4)


def products(traced: Trace) -> list[tuple[Any, ...]]:
    found = [layer for layer in traced.layers if layer.kind == "matmul"]
    return [(layer.name, layer.groups, layer.c_in, layer.c_out, layer.output_size) for layer in found]


@pytest.mark.parametrize(
    ("forward", "name"),
    [
        (lambda m, x: m.q(x) @ m.k(x).mT, "matmul"),
        (lambda m, x: torch.matmul(m.q(x), other=m.k(x).mT), "matmul"),
        (lambda m, x: m.q(x)[0].mm(m.k(x)[0].t())[None], "matmul"),
        (lambda m, x: torch.bmm(m.q(x), m.k(x).mT), "bmm"),
        (lambda m, x: torch.baddbmm(x[..., :3], m.q(x), m.k(x).mT, alpha=0.5), "baddbmm"),
        (lambda m, x: torch.addmm(x[0, :, :3], mat1=m.q(x)[0], mat2=m.k(x)[0].t())[None], "addmm"),
        (lambda m, x: torch.einsum("bik,bjk->bij", m.q(x), m.k(x)), "einsum"),
        (lambda m, x: torch.einsum("...ik, ...jk -> ...ij", m.q(x), m.k(x)), "einsum"),
    ],
)
def test_explicit_products_are_layers(forward: Callable[[Wired, Tensor], Any], name: str) -> None:
    model = Wired(forward)
    traced = trace(model, X)
    # Three rows of four values with three columns: 36 multiplications, in one product.
    assert products(traced) == [(name, 1, 4, 3, (3, 1))]
    assert traced.layers[-1].weight_count == 0
    assert (traced.layers[-1].input_tensors, traced.layers[-1].second_tensors) == ((1, 2), (2,))
    assert traced.refused == ()
    seen = []

    def compute(layer: int, call: Call) -> Tensor:
        seen.append(layer)
        return call.run(call.input, call.factor)

    with torch.no_grad(), LayerCalls(LayerIndex(model, traced.sites), compute):
        output = model(X)
    assert seen == [0, 1, 2]
    assert torch.equal(output, model(X))


@pytest.mark.parametrize(
    ("forward", "reason"),
    [
        (lambda m, x: torch.tensordot(m.q(x), m.k(x), dims=([2], [2])), "two activations in a way"),
        (lambda m, x: torch.einsum("bik,bjk,bjl->bil", m.q(x), m.k(x), x), "two activations in a way"),
        (lambda m, x: torch.einsum("bik,bkl->bi", m.q(x), m.k(torch.ones(1, 4, 4) + x.sum())), "in a way"),
        (lambda m, x: (m.q(x)[:, None].expand(-1, 2, -1, -1)) @ m.k(x).mT[:, None].expand(5, 1, -1, -1), "in a way"),
        (lambda m, x: m.k(m.q(x)) @ torch.eye(4), "with a constant"),
        (lambda m, x: m.k(m.q(x)) @ m.q.weight[:, ::2], "in another order or with gaps"),
        (lambda m, x: torch.addmm(m.q.bias, m.k(m.q(x))[0], m.q.weight, beta=2), "with q.weight"),
        (lambda m, x: torch.addmm(x[0], m.k(m.q(x))[0], m.q.weight), "with q.weight"),
        (lambda m, x: torch.einsum("bik,kl->bil", m.k(m.q(x)), m.q.weight), "with q.weight"),
        (lambda m, x: torch.ops.aten.bmm.default(m.q(x), m.k(x).mT), "two activations in bmm"),
    ],
)
def test_other_products_are_refused(forward: Callable[[Wired, Tensor], Any], reason: str) -> None:
    traced = trace(Wired(forward), X)
    assert products(traced) == []
    (refused,) = traced.refused
    assert reason in refused.reason


@pytest.mark.parametrize(
    ("first", "second", "sizes"),
    [
        ((2, 3, 5, 4), (2, 3, 4, 6), ProductSizes(6, 5, 6, 4)),
        ((2, 3, 5, 4), (4, 6), ProductSizes(1, 30, 6, 4)),
        ((5, 4), (2, 3, 4, 6), ProductSizes(1, 5, 36, 4)),
        ((2, 3, 5, 4), (2, 1, 4, 6), ProductSizes(2, 15, 6, 4)),
        ((4,), (4, 6), ProductSizes(1, 1, 6, 4)),
        ((2, 5, 4), (4,), ProductSizes(1, 10, 1, 4)),
        ((2, 1, 5, 4), (1, 3, 4, 6), None),
        ((2, 0, 4), (2, 4, 3), None),
    ],
)
def test_sizes_of_matmul(first: tuple[int, ...], second: tuple[int, ...], sizes: ProductSizes | None) -> None:
    call = Call(torch.matmul, PRODUCT, {"input": torch.zeros(first), "weight": torch.zeros(second)})
    assert product_sizes(call) == sizes


@pytest.mark.parametrize(
    ("equation", "sizes"),
    [
        ("bhqd,bhkd->bhqk", ProductSizes(6, 5, 4, 4)),
        ("bhqd,bhkd->hqbk", ProductSizes(6, 5, 4, 4)),
        ("bhqd,bhkd", ProductSizes(1, 5, 4, 24)),
        ("bhqd,bhkd->bqk", ProductSizes(2, 5, 4, 12)),
        ("bhqd,bhkd->bhqkd", None),
        ("bhqq,bhkd->bhk", None),
    ],
)
def test_sizes_of_einsum(equation: str, sizes: ProductSizes | None) -> None:
    operands = {"input": torch.zeros(2, 3, 5, 4), "weight": torch.zeros(2, 3, 4, 4)}
    assert product_sizes(Call(torch.einsum, PRODUCT, {**operands, "equation": equation})) == sizes


def test_products_of_shared_modules_are_tied_and_numbered() -> None:
    class Gram(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x @ x.mT) @ x

    model = nn.Sequential(nn.Linear(4, 4), gram := Gram(), gram, nn.Linear(4, 2))
    traced = trace(model, X)
    assert [(layer.name, layer.tied_to) for layer in traced.layers] == [
        ("0", None),
        ("1.matmul", None),
        ("1.matmul_2", None),
        ("1.matmul:2", "1.matmul"),
        ("1.matmul_2:2", "1.matmul_2"),
        ("3", None),
    ]
    assert traced.heads == ("3",)


def test_multi_head_attention_has_named_products() -> None:
    for need_weights in (True, False):

        class Attention(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.mha = nn.MultiheadAttention(8, 2, batch_first=True)

            def forward(self, x: Tensor, weights: bool = need_weights) -> Tensor:
                return self.mha(x, x, x, need_weights=weights)[0]

        traced = trace(Attention(), torch.rand(1, 5, 8))
        assert [layer.name for layer in traced.layers] == ["mha.in_proj", "mha.qk", "mha.pv", "mha.out_proj"]
        assert products(traced) == [("mha.qk", 2, 8, 10, (5, 1)), ("mha.pv", 2, 10, 8, (5, 1))]
        assert [layer.input_tensors for layer in traced.layers] == [(0,), (1,), (1, 2), (3,)]
        assert [layer.second_tensors for layer in traced.layers] == [(), (), (1,), ()]


class Block(nn.Module):
    """Causal attention as in a small GPT, with two heads of keys for four of queries if grouped."""

    def __init__(self, heads: int = 2) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(8), nn.Linear(8, 8 + 4 * heads), nn.Linear(8, 8)
        self._heads = heads

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).split([8, 2 * self._heads, 2 * self._heads], dim=-1)
        q, k, v = (each.unflatten(-1, (-1, 2)).transpose(1, 2) for each in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self._heads != 4)
        return x + self.out(y.transpose(1, 2).flatten(2))


@pytest.mark.parametrize(
    ("model", "x"),
    [
        (nn.Sequential(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)), torch.rand(1, 5, 8)),
        (Block(heads=4), torch.rand(1, 6, 8)),
        (Block(heads=2), torch.rand(1, 6, 8)),
    ],
    ids=["encoder layer", "causal", "grouped queries"],
)
def test_macs_with_attention_equal_torch_counter(model: nn.Module, x: Tensor) -> None:
    traced = trace(model.eval(), x)
    assert sum(layer.kind == "matmul" for layer in traced.layers) == 2
    # The native path of encoder layers is no operator that torch counts; the mathematical kernel computes products.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            model(x)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    assert sum(layer.macs for layer in traced.layers) == counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"is_causal": True},
        {"scale": 0.3},
        {"attn_mask": torch.rand(2, 1, 5, 7)},
        {"attn_mask": torch.rand(5, 7) > 0.4},
        {"attn_mask": torch.zeros(5, 7, dtype=torch.bool)},  # nothing to attend to: zeros
    ],
    ids=["plain", "causal", "scale", "addend", "mask", "empty mask"],
)
def test_attention_in_steps_equals_torch(options: dict[str, Any]) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 4, generator=generator) for n in (5, 7, 7))
    with MultiplicationMode(RunningModules(nn.Identity())):
        found = F.scaled_dot_product_attention(q, k, v, **options)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(q, k, v, **options))


def test_causal_attention_with_a_mask_raises_torchs_error() -> None:
    q = torch.rand(1, 1, 3, 4)
    with MultiplicationMode(RunningModules(nn.Identity())), pytest.raises(RuntimeError, match="is_causal"):
        F.scaled_dot_product_attention(q, q, q, attn_mask=torch.zeros(3, 3), is_causal=True)


def test_networks_without_product_layers_compute_attention_as_torch_does() -> None:
    model = Block(heads=4).eval()
    x = torch.rand(1, 6, 8)
    traced = trace(model, x)
    old = [site for site, layer in zip(traced.sites, traced.layers, strict=True) if layer.kind != "matmul"]
    with torch.no_grad(), LayerCalls(LayerIndex(model, old), lambda _, call: call.run(call.input, call.factor)):
        found = model(x)
    with torch.no_grad():
        assert torch.equal(found, model(x))


def test_products_of_attention_are_matrix_products_where_nothing_intercepts_them() -> None:
    first, second = torch.rand(2, 3, 4), torch.rand(2, 4, 5)
    assert torch.equal(attention_product(first, second, QK), first @ second)
