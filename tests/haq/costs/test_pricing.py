"""Prices, budgets and fixed bits of a network without a deployment target, by hand."""

from typing import Any

import pytest

from envs.building import build_choices
from envs.choices import BudgetError
from haq.config import search_config
from haq.costs.pricing import PricedLayers, allowed_bits, cost_in, require_feasible, resolve_budgets
from haq.errors import UserError
from hardware_sim.layer import Layer
from hardware_sim.proxy import proxy_table

NET = (
    Layer(name="stem", kind="linear", c_in=10, c_out=10),
    Layer(name="body", kind="linear", c_in=10, c_out=20),
    Layer(name="body:2", kind="linear", c_in=10, c_out=20, tied_to="body"),
    Layer(name="product", kind="matmul", c_in=10, c_out=4),
    Layer(name="head", kind="linear", c_in=10, c_out=30),
)
MACS = {"stem": 100, "body": 200, "body:2": 200, "product": 40, "head": 300}
BOPS = {"objective": "bops", "hardware": "bismo-edge"}


def priced(*heads: str) -> PricedLayers:
    return PricedLayers("net", NET, heads or ("head",), (), proxy_table(NET, hardware="desk"))


def test_uniform_costs_are_sums_over_all_layers() -> None:
    assert priced().baseline.bops == 64 * 840
    assert priced().baseline.weight_bytes == 100 + 200 + 300
    assert priced().cost(2, None).bops == 2 * 32 * 840
    assert priced().cost(2, None).weight_bytes == 600 / 4


def test_ratios_and_uniform_bits_become_limits() -> None:
    ratio, *rest = resolve_budgets(search_config(**BOPS, budget="0.5"), priced())
    assert (ratio.budget.objective, ratio.budget.limit, ratio.ratio, rest) == ("bops", 32 * 840, 0.5, [])
    # First layer and head have 8 bits, pinned layers and those tied to them theirs.
    (uniform,) = resolve_budgets(search_config(**BOPS, budget="4bits", pin={"body": 2}), priced())
    assert uniform.budget.limit == 64 * (100 + 300) + 4 * (200 + 200) + 16 * 40
    assert uniform.ratio == pytest.approx(uniform.budget.limit / (64 * 840))


def test_budget_of_an_unmodelled_cost_is_refused() -> None:
    with pytest.raises(UserError, match="desk does not model latency"):
        resolve_budgets(search_config(budget="0.5"), priced())


def test_first_layer_and_heads_are_pinned_unless_pinned_otherwise() -> None:
    found = allowed_bits(search_config(**BOPS, min_bits=3, max_bits=6), priced())
    assert (found.min_bits, found.max_bits, found.a_bits, found.legal) == (3, 6, None, {})
    assert found.pinned == {"stem": (8, 8), "head": (8, 8)}
    free = allowed_bits(search_config(**BOPS, first_last_bits=None, pin={"body": 5}), priced())
    assert free.pinned == {"body": (5, 5)}
    both = allowed_bits(search_config(**BOPS, first_last_bits=6, pin={"head": 4}), priced())
    assert both.pinned == {"stem": (6, 6), "head": (4, 4)}


def test_head_that_shares_bits_pins_their_layer() -> None:
    assert allowed_bits(search_config(**BOPS), priced("body:2", "head")).pinned == {
        "stem": (8, 8),
        "body": (8, 8),
        "head": (8, 8),
    }


def test_under_size_activations_and_both_operands_of_products_are_fixed() -> None:
    found = allowed_bits(search_config(objective="size", a_bits=6, pin={"body": 3}), priced())
    assert found.a_bits == 6
    assert found.pinned == {"product": (6, 6), "stem": (8, 6), "head": (8, 6), "body": (3, 6)}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("body:2", "--pin body:2: its bits are those of body; pin that instead"),
        ("tail", "--pin 'tail' names no layer; the layers are stem, body, body:2, product, head"),
    ],
)
def test_pins_of_layers_without_bits_of_their_own_are_refused(name: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        allowed_bits(search_config(**BOPS, pin={name: 4}), priced())
    assert str(caught.value) == message


def choice_of(**settings: Any) -> Any:
    config, layers = search_config(**BOPS, **settings), priced()
    budgets = resolve_budgets(config, layers)
    return build_choices(layers.table, [each.budget for each in budgets], allowed_bits(config, layers)), budgets


def test_budget_below_the_cheapest_bits_is_refused_with_both_costs() -> None:
    least = (64 * 400 + 4 * 440) / (64 * 840)
    choice, budgets = choice_of(budget=f"{least + 1e-6:.9f}")
    require_feasible(choice, budgets, priced().baseline)
    choice, budgets = choice_of(budget="0.1")
    with pytest.raises(UserError) as caught:
        require_feasible(choice, budgets, priced().baseline)
    assert str(caught.value) == (
        "no policy meets the bops budget of 5.38 kBOP (0.1 of 8 bits): the cheapest bits cost 27.4 kBOP "
        f"({least:.3g} of 8 bits)"
    )


def test_budgets_that_contradict_each_other_raise_the_error_of_the_choices() -> None:
    class Contradiction:
        min_totals = (1.0,)

        def require_feasible(self) -> None:
            raise BudgetError("no policy meets all of the budgets at once: bops")

    _, budgets = choice_of(budget="0.9")
    with pytest.raises(BudgetError, match="at once"):
        require_feasible(Contradiction(), budgets, priced().baseline)  # type: ignore[arg-type]


def test_cost_that_a_device_does_not_model_is_refused() -> None:
    assert cost_in("size", priced().baseline) == 600
    with pytest.raises(UserError, match="does not model energy"):
        cost_in("energy", priced().baseline)
