"""Parts of a network that stay in float: reasons, MACs, and what accounts for parameters."""

import torch
from torch import nn

from haq.costs.unpriced import Refused
from haq.network.tracing.operators import Product
from haq.network.tracing.refusals import NOT_CALLED, Refusals
from haq.network.tracing.weighted_calls import WeightSlice


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(2, 3), nn.LayerNorm(3)
        self.table, self.part = nn.Parameter(torch.zeros(4, 5)), nn.Parameter(torch.zeros(4, 3))
        self.vector = nn.Parameter(torch.zeros(7))


def test_first_reason_is_kept_and_macs_are_added() -> None:
    refusals = Refusals()
    refusals.add("a", "first")
    assert list(refusals) == [Refused("a", "first", None)]
    products = [Product("mm", macs, (), "") for macs in (5, 7)]
    refusals.add("a", "second", products=products)
    refusals.add("a", "third", products=products[:1])
    refusals.add("b", "other", products=products)
    assert list(refusals) == [Refused("a", "first", 17), Refused("b", "other", 12)]


def test_unseen_products_are_named_by_parameter_module_or_operator() -> None:
    refusals = Refusals()
    refusals.add_unseen(
        [
            Product("mm", 1, ("fc.weight", "fc.bias"), "block"),
            Product("bmm", 2, (), "block"),
            Product("einsum", 4, (), ""),
            Product("mm", 8, (), "block"),
        ]
    )
    ending = "which has no quantized form"
    assert list(refusals) == [
        Refused("fc", f"multiplies with fc.weight in mm, {ending}", 1),
        Refused("block", f"multiplies two activations in bmm, {ending}", 2 + 8),
        Refused("einsum", f"multiplies two activations in einsum, {ending}", 4),
    ]


def rest(*weights: WeightSlice, called: tuple[str, ...] = (), readers: tuple[str, ...] = ()) -> dict[str, str]:
    refusals = Refusals()
    refusals.add_rest(Parts(), called, weights, {"table": readers})
    return {each.name: each.reason for each in refusals}


def test_modules_and_parameters_that_nothing_uses_are_refused() -> None:
    unused = "was not seen to be used on the example input; other inputs may use it, in float"
    assert rest() == {"linear": NOT_CALLED, "table": unused, "part": unused}


def test_called_modules_and_those_of_weights_are_not_refused() -> None:
    assert "linear" not in rest(WeightSlice("linear.weight", 0, (3, 2)))
    # Called, but its weights are in no layer.
    assert rest(called=("linear",))["linear.weight"].startswith("was not seen")
    assert "linear" not in rest(called=("linear",))


def test_overlapping_parts_are_counted_once() -> None:
    parts = (WeightSlice("part", 3, (2, 3)), WeightSlice("part", 0, (2, 3)), WeightSlice("part", 1, (1, 3)))
    assert rest(*parts)["part"] == "3 of its 12 weights are in no layer"
    assert "part" not in rest(*parts, WeightSlice("part", 9, (1, 3)))
    assert rest(WeightSlice("part", 0, (1, 3)), WeightSlice("part", 6, (2, 3)))["part"].startswith("3 of its 12")


def test_reason_names_the_first_three_operators_that_read_a_parameter() -> None:
    assert rest(readers=("mul", "add", "mul"))["table"] == "is read by mul, add, not by a layer"
    assert rest(readers=("mul", "add", "sub"))["table"] == "is read by mul, add, sub, not by a layer"
    assert rest(readers=("mul", "add", "sub", "div"))["table"] == "is read by mul, add, sub, ..., not by a layer"


def test_parameters_of_refused_products_are_accounted_for() -> None:
    refusals = Refusals()
    refusals.add("einsum", "multiplies", products=[Product("einsum", 1, ("table",), "")], parameters=["part"])
    refusals.add_rest(Parts(), ("linear",), [WeightSlice("linear.weight", 0, (3, 2))], {})
    assert [each.name for each in refusals] == ["einsum"]
