"""Choices: ranges, pins, ties, dominated pairs, and the reserve."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.building import build_choices
from envs.choices import AllowedBits, Budget, BudgetError, Choices
from hardware_sim.cost import CostTable, Limit, UnsupportedError
from hardware_sim.layer import Layer
from hardware_sim.proxy import proxy_table

PAIRS = np.multiply.outer(np.arange(1, 9.0), np.arange(1, 9.0))
FREE = AllowedBits(pinned={})
TWO_TO_FOUR = AllowedBits(min_bits=2, max_bits=4, pinned={})


def linear(name: str, *, tied_to: str | None = None) -> Layer:
    return Layer(name=name, kind="linear", c_in=8, c_out=4, tied_to=tied_to)


def latency_table(latency: np.ndarray, layers: tuple[Layer, ...] = (), limits: tuple[Limit, ...] = ()) -> CostTable:
    """Cost table of latency [layer, 8, 8] in seconds, with proxies for all else."""
    layers = layers or tuple(linear(f"l{number}") for number in range(len(latency)))
    proxies = proxy_table(layers)
    padded = np.full((len(layers), 9, 9), np.nan)
    padded[:, :8, :8] = latency
    return CostTable(
        hardware="desk",
        layers=layers,
        batch=1,
        cycles=None,
        latency_s=padded,
        energy_parts_j={},
        weight_bytes=proxies.weight_bytes,
        bops=proxies.bops,
        limits=limits,
    )


def bits_open(choice: Choices, decision: int) -> set[tuple[int, int]]:
    return {(int(w) + 1, int(a) + 1) for w, a in np.argwhere(choice.allowed[decision])}


def test_first_and_last_layer_are_pinned_to_8_bits_by_default() -> None:
    table = latency_table(np.stack([PAIRS] * 3))
    choice = build_choices(table, [Budget("latency", 1e3)], AllowedBits(min_bits=2, max_bits=4))
    assert bits_open(choice, 0) == bits_open(choice, 2) == {(8, 8)}
    assert bits_open(choice, 1) == set(product((2, 3, 4), repeat=2))
    pinned = build_choices(table, [Budget("latency", 1e3)], AllowedBits(pinned={"l1": (1, 5)}, a_bits=6))
    assert bits_open(pinned, 1) == {(1, 5)}
    assert bits_open(pinned, 0) == {(w, 6) for w in range(2, 9)}


def test_decision_of_tied_last_layer_is_pinned() -> None:
    layers = (linear("embed"), linear("middle"), linear("embed:2", tied_to="embed"))
    choice = build_choices(latency_table(np.stack([PAIRS] * 3), layers), [Budget("latency", 1e3)], AllowedBits())
    assert bits_open(choice, 0) == {(8, 8)}
    assert len(bits_open(choice, 1)) == 49


def test_tied_layers_are_one_decision_with_summed_cost() -> None:
    layers = (linear("a"), linear("b"), linear("a:2", tied_to="a"), linear("c"))
    table = latency_table(np.stack([PAIRS, 2 * PAIRS, 3 * PAIRS, 4 * PAIRS]), layers)
    choice = build_choices(table, [Budget("latency", 1e3), Budget("size", 1e3)], FREE)
    assert choice.names == ("a", "b", "c")
    np.testing.assert_array_equal(choice.cost[0], [4 * PAIRS, 2 * PAIRS, 4 * PAIRS])
    assert choice.cost[1, 0, 7, 7] == 32  # 8 * 4 weights of one byte, once
    bits = np.array([[2, 3], [4, 5], [6, 7]])
    assert choice.total(bits).tolist() == [4 * 6 + 2 * 20 + 4 * 42, 32 * (2 + 4 + 6) / 8]
    assert choice.expand(bits).tolist() == [[2, 3], [4, 5], [2, 3], [6, 7]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"min_bits": 0}, "1 <= min"),
        ({"max_bits": 9}, "max <= 8"),
        ({"min_bits": 5, "max_bits": 4}, "got 5 and 4"),
        ({"a_bits": 0}, "a_bits"),
        ({"a_bits": 9}, "got 9"),
        ({"pinned": {"l0": (0, 8)}}, "'l0' is pinned to 0"),
        ({"pinned": {"l0": (8, 9)}}, "'l0' is pinned to 8 and 9"),
    ],
)
def test_invalid_widths_raise(arguments: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        AllowedBits(**arguments)


def test_pin_of_unknown_layer_raises_and_lists_layers() -> None:
    with pytest.raises(ValueError, match=r"'conv9' .* l0, l1"):
        build_choices(
            latency_table(np.stack([PAIRS] * 2)), [Budget("latency", 1)], AllowedBits(pinned={"conv9": (8, 8)})
        )


def test_missing_budget_raises() -> None:
    with pytest.raises(ValueError, match="no budget"):
        build_choices(latency_table(np.stack([PAIRS])), [], FREE)


@pytest.mark.parametrize("limit", [0.0, -1.0, float("nan"), float("inf")])
def test_non_positive_budget_raises(limit: float) -> None:
    with pytest.raises(BudgetError, match="positive"):
        Budget("latency", limit)


def test_allowed_pair_without_cost_raises_with_its_name() -> None:
    latency = np.stack([PAIRS] * 3)
    latency[1, 2, 4] = np.nan
    with pytest.raises(UnsupportedError, match="l1 at 3x5"):
        build_choices(latency_table(latency), [Budget("latency", 1e3)], AllowedBits())
    build_choices(latency_table(latency), [Budget("latency", 1e3)], AllowedBits(min_bits=4))


def test_unmodelled_objective_raises_with_its_name() -> None:
    with pytest.raises(UnsupportedError, match="energy"):
        build_choices(latency_table(np.stack([PAIRS])), [Budget("energy", 1.0)], FREE)


def test_dominated_pairs_of_memory_bound_layer_are_dropped() -> None:
    by_activations = np.broadcast_to(np.arange(1, 9.0), (8, 8))
    choice = build_choices(latency_table(by_activations[None]), [Budget("latency", 100)], FREE).without_dominated()
    assert bits_open(choice, 0) == {(8, a) for a in range(2, 9)}


def test_reserve_has_most_bits_among_equally_cheap_pairs() -> None:
    by_activations = np.broadcast_to(np.arange(1, 9.0), (2, 8, 8))
    assert build_choices(latency_table(by_activations), [Budget("latency", 100)], FREE).reserve.tolist() == [
        [8, 2],
        [8, 2],
    ]


def test_pairs_that_cost_more_under_second_budget_do_not_dominate() -> None:
    by_activations = np.broadcast_to(np.arange(1, 9.0), (8, 8))
    budgets = [Budget("latency", 100), Budget("size", 1e3)]
    choice = build_choices(latency_table(by_activations[None]), budgets, FREE).without_dominated()
    assert len(bits_open(choice, 0)) == 49


def brute_force(choice: Choices) -> list[np.ndarray]:
    """All policies within the limits."""
    pairs = [sorted(bits_open(choice, decision)) for decision in range(len(choice.names))]
    return [bits for bits in map(np.array, product(*pairs)) if choice.fits(bits)]


costs = st.integers(0, 12).map(float)


@given(st.lists(st.lists(costs, min_size=9, max_size=9), min_size=1, max_size=3), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_dropping_dominated_pairs_keeps_best_policies(rows: list[list[float]], limit: int) -> None:
    latency = np.full((len(rows), 8, 8), 99.0)
    latency[:, 1:4, 1:4] = np.array(rows).reshape(-1, 3, 3)
    choice = build_choices(
        latency_table(latency), [Budget("latency", limit)], AllowedBits(min_bits=2, max_bits=4, pinned={})
    )
    kept = brute_force(choice.without_dominated())
    for bits in brute_force(choice):
        assert any((better >= bits).all() and choice.total(better) <= choice.total(bits) for better in kept)


@given(st.lists(st.lists(costs, min_size=9, max_size=9), min_size=1, max_size=3), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_reserve_is_cheapest_policy_and_fits_if_any_does(rows: list[list[float]], limit: int) -> None:
    latency = np.full((len(rows), 8, 8), 99.0)
    latency[:, 1:4, 1:4] = np.array(rows).reshape(-1, 3, 3)
    choice = build_choices(
        latency_table(latency), [Budget("latency", limit)], AllowedBits(min_bits=2, max_bits=4, pinned={})
    )
    possible = brute_force(choice)
    if not possible:
        with pytest.raises(BudgetError, match="no policy meets the latency budget"):
            _ = choice.reserve
        return
    assert choice.fits(choice.reserve)
    assert choice.total(choice.reserve)[0] == min(choice.total(bits)[0] for bits in possible)


@given(st.lists(st.lists(costs, min_size=9, max_size=9), min_size=1, max_size=3), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_has_one_policy_equals_enumeration(rows: list[list[float]], limit: int) -> None:
    latency = np.full((len(rows), 8, 8), 99.0)
    latency[:, 1:4, 1:4] = np.array(rows).reshape(-1, 3, 3)
    choice = build_choices(
        latency_table(latency), [Budget("latency", limit)], AllowedBits(min_bits=2, max_bits=4, pinned={})
    )
    possible = brute_force(choice)
    if possible:
        assert choice.has_one_policy == (len(possible) == 1)


def two_limits(pairs: list[list[tuple[float, float]]], limits: tuple[float, float]) -> Choices:
    """Decisions with a choice of 2, 3, ... weight bits, each at (latency, memory)."""
    widest = max(map(len, pairs))
    cost = np.full((2, len(pairs), 9, 9), 1e3)
    for decision, options in enumerate(pairs):
        for option, both in enumerate(options):
            cost[:, decision, option + 1, 7] = both
    table = latency_table(cost[0, :, :8, :8], limits=(Limit("RAM", "B", limits[1], cost[1]),))
    allowed = AllowedBits(min_bits=2, max_bits=1 + widest, a_bits=8, pinned={})
    return build_choices(table, [Budget("latency", limits[0])], allowed)


def test_reserve_under_two_limits_without_greedy_solution() -> None:
    # Least latency: 2 + 19; least of both, each in parts of its limit: 18 + 2. Only one of each kind fits.
    choice = two_limits([[(9, 1), (1, 9.5)], [(9, 1), (1, 9.5)]], (11, 11))
    assert sorted(choice.reserve[:, 0].tolist()) == [2, 3]
    assert choice.fits(choice.reserve)


def test_reserve_under_two_limits_met_exactly() -> None:
    choice = two_limits([[(9, 1), (1, 9.5)], [(9, 1), (1, 9.5)]], (10, 10.5))
    assert choice.total(choice.reserve).tolist() == [10, 10.5]


def test_reserve_does_not_exceed_limit_within_solver_tolerance() -> None:
    # 2 and 2 bits are cheapest but 1e-8 over the second limit; 3 and 2 bits are within both.
    choice = two_limits([[(9, 1), (9.5, 0.9)], [(1, 9), (1000, 1000)]], (11, 10 * (1 - 1e-8)))
    assert choice.reserve[:, 0].tolist() == [3, 2]


def test_jointly_infeasible_limits_are_named() -> None:
    choice = two_limits([[(9, 1), (1, 9.5)], [(9, 1), (1, 9.5)]], (9, 9))
    with pytest.raises(BudgetError, match="at once: latency, RAM") as caught:
        _ = choice.reserve
    assert "\n" not in str(caught.value)


@given(
    st.lists(st.lists(st.tuples(costs, costs), min_size=3, max_size=3), min_size=1, max_size=4),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
@settings(max_examples=60, deadline=None)
def test_reserve_under_two_limits_is_found_if_one_exists(
    pairs: list[list[tuple[float, float]]], limits: tuple[int, int]
) -> None:
    choice = two_limits(pairs, limits)
    if brute_force(choice):
        assert choice.fits(choice.reserve)
    else:
        with pytest.raises(BudgetError):
            _ = choice.reserve


@pytest.mark.parametrize(("memory", "count"), [(10.5, 2), (9.9, 0), (18.0, 2), (19.0, 3)])
def test_has_one_policy_considers_joint_changes(memory: float, count: int) -> None:
    choice = two_limits([[(9, 1), (1, 9.5)], [(9, 1), (1, 9.5)]], (11, memory))
    assert len(brute_force(choice)) == count
    if count:
        assert not choice.has_one_policy


def test_has_one_policy_under_two_limits() -> None:
    choice = two_limits([[(9, 1), (1, 9.5)], [(9, 1), (1.5, 9.5)]], (10.2, 11))
    assert len(brute_force(choice)) == 1
    assert choice.has_one_policy


def test_nearest_allowed_pair_is_taken() -> None:
    allowed = AllowedBits(min_bits=3, max_bits=6, pinned={"l1": (8, 8)})
    choice = build_choices(latency_table(np.stack([PAIRS] * 2)), [Budget("latency", 1e3)], allowed)
    assert choice.nearest(np.array([[1, 8], [2, 2]])).tolist() == [[3, 6], [8, 8]]


def test_only_legal_pairs_are_open() -> None:
    table = latency_table(np.stack([PAIRS] * 3))
    legal = {name: {(w, 8) for w in (2, 4, 8)} for name in ("l0", "l1")}
    choice = build_choices(table, [Budget("latency", 1e3)], AllowedBits(max_bits=8, pinned={"l0": (4, 8)}, legal=legal))
    assert bits_open(choice, 0) == {(4, 8)}
    assert bits_open(choice, 1) == {(2, 8), (4, 8), (8, 8)}
    assert bits_open(choice, 2) == set(product(range(2, 9), repeat=2))


@pytest.mark.parametrize("allowed", [{"pinned": {"l0": (3, 8)}}, {"pinned": {}, "max_bits": 7}])
def test_layer_without_legal_pairs_is_named(allowed: dict[str, object]) -> None:
    bits = AllowedBits(**allowed, legal={"l0": {(4, 8), (8, 8)}})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no legal bits are left for layer 'l0'"):
        build_choices(latency_table(PAIRS[None]), [Budget("latency", 1e3)], bits)


def test_allowed_policies_take_an_open_pair_in_every_decision() -> None:
    choice = build_choices(latency_table(np.stack([PAIRS] * 2)), [Budget("latency", 1e3)], TWO_TO_FOUR)
    assert choice.allows(np.array([[2, 4], [4, 2]]))
    assert not choice.allows(np.array([[2, 4], [4, 1]]))
    assert not choice.allows(np.array([[2, 4], [5, 2]]))
    assert not choice.allows(np.array([[1, 4], [4, 2]]))
    assert not choice.allows(np.array([[2, 5], [4, 2]]))


def test_first_layers_stand_for_their_decisions() -> None:
    layers = (linear("a"), linear("a:2", tied_to="a"), linear("b"), linear("b:2", tied_to="b"))
    choice = build_choices(latency_table(np.stack([PAIRS] * 4), layers), [Budget("latency", 1e3)], FREE)
    assert choice.layer_of_decision == (0, 2)
    assert choice.decisions(np.array([[2, 3], [2, 3], [6, 7], [6, 7]])).tolist() == [[2, 3], [6, 7]]


def test_another_limit_changes_that_of_the_objective_alone() -> None:
    choice = two_limits([[(9, 1), (1, 9.5)]], (10, 11)).with_limit(3.0)
    assert choice.limits.tolist() == [3.0, 11.0]


def test_nearest_pair_of_equal_distance_has_fewer_weight_bits() -> None:
    legal = {"l0": {(2, 6), (6, 2), (8, 8)}}
    bits = AllowedBits(pinned={}, legal=legal)
    choice = build_choices(latency_table(PAIRS[None]), [Budget("latency", 1e3)], bits)
    assert choice.nearest(np.array([[4, 4]])).tolist() == [[2, 6]]
    assert choice.nearest(np.array([[5, 4]])).tolist() == [[6, 2]]
    assert bits.nearest_legal("l0", (4, 4)) == (2, 6)
    assert bits.nearest_legal("l0", (5, 4)) == (6, 2)
    assert bits.nearest_legal("free", (5, 4)) == (5, 4)


def test_uniform_bits_respect_pins_and_fixed_activations() -> None:
    assert AllowedBits(pinned={"l0": (8, 7)}).uniform("l0", 4) == (8, 7)
    assert AllowedBits().uniform("l0", 4) == (4, 4)
    assert AllowedBits(a_bits=6).uniform("l0", 4) == (4, 6)
