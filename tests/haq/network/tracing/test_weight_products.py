"""Linear layers that networks compute by matrix products, with weights in either order."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.network.layer_calls import LayerCalls, LayerIndex, weight_of
from haq.network.layers import trace
from haq.network.tracing.weighted_calls import Call

X = torch.linspace(-1, 1, 24).reshape(1, 3, 8)


class Projection(nn.Module):
    """Product of an input with a matrix of weights, computed by a function given by a test."""

    def __init__(self, shape: tuple[int, ...], forward: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(shape, generator=generator))
        self.bias = nn.Parameter(torch.randn(4, generator=generator))
        self._forward = forward

    def forward(self, x: Tensor) -> Tensor:
        return self._forward(x, self.weight, self.bias)


@pytest.mark.parametrize(
    ("shape", "forward"),
    [
        ((8, 4), lambda x, w, _: x @ w),
        ((8, 4), lambda x, w, _: torch.matmul(x, other=w)),
        ((8, 4), lambda x, w, _: x[0].mm(w)[None]),
        ((8, 4), lambda x, w, b: torch.addmm(b, x[0], w)[None]),
        ((8, 4), lambda x, w, b: F.linear(x, w.t(), b)),
        ((4, 8), lambda x, w, _: x @ w.mT),
        ((4, 8), lambda x, w, b: torch.addmm(b, x[0], w.t())[None]),
        ((3, 8, 4), lambda x, w, _: x @ w[1]),
        ((3, 4, 8), lambda x, w, _: x @ w[2].t()),
    ],
)
def test_products_with_weights_are_linear_layers(
    shape: tuple[int, ...], forward: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> None:
    model = Projection(shape, forward)
    traced = trace(model, X)
    (layer,) = traced.layers
    assert (layer.kind, layer.c_in, layer.c_out, layer.weight_count, layer.macs) == ("linear", 8, 4, 32, 96)
    assert len(traced.refused) == (len(shape) == 3)  # the other parts of the parameter

    def check(_: int, call: Call) -> Tensor:
        assert torch.equal(call.factor, weight_of(model, traced.sites[0]))
        return call.run(call.input, torch.zeros_like(call.factor))

    with torch.no_grad(), LayerCalls(LayerIndex(model, traced.sites), check):
        zeros = model(X) - forward(X, torch.zeros(shape), model.bias)
    assert not zeros.any()


def test_a_single_output_is_named_after_its_module() -> None:
    model = nn.Sequential(Projection((8, 1), lambda x, w, _: x @ w))
    traced = trace(model, X)
    assert [(layer.name, layer.c_out) for layer in traced.layers] == [("0", 1)]
    assert weight_of(model, traced.sites[0]).shape == (1, 8)


def test_a_decoder_that_multiplies_with_the_embedding_is_tied_to_it() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(5, 8)

        def forward(self, x: Tensor) -> Tensor:
            decoded: Tensor = self.embedding(x) @ self.embedding.weight.t()
            return decoded

    layers = trace(Tied(), torch.tensor([[1, 2, 3]])).layers
    assert [(layer.name, layer.kind, layer.tied_to) for layer in layers] == [
        ("embedding", "embedding", None),
        ("embedding:2", "linear", "embedding"),
    ]
