"""Parsing of budgets and durations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haq.budgets import UNITS, BudgetSpec, parse_budget, parse_budgets, parse_duration
from haq.errors import UserError
from haq.formatting import format_cost, percent
from hardware_sim.cost import OBJECTIVES, Cost, Objective


@pytest.mark.parametrize(
    ("text", "objective", "expected"),
    [
        ("0.6", "latency", BudgetSpec("latency", 0.6, "ratio")),
        ("1", "bops", BudgetSpec("bops", 1.0, "ratio")),
        ("6e-1", "energy", BudgetSpec("energy", 0.6, "ratio")),
        (" .5 ", "size", BudgetSpec("size", 0.5, "ratio")),
        ("size=0.5", "latency", BudgetSpec("size", 0.5, "ratio")),
        ("2s", "latency", BudgetSpec("latency", 2.0, "absolute")),
        ("12 ms", "latency", BudgetSpec("latency", 0.012, "absolute")),
        ("latency=500us", "size", BudgetSpec("latency", 5e-4, "absolute")),
        ("3mJ", "energy", BudgetSpec("energy", 3e-3, "absolute")),
        ("2e3uJ", "energy", BudgetSpec("energy", 2e-3, "absolute")),
        ("250kB", "size", BudgetSpec("size", 250_000.0, "absolute")),
        ("2KiB", "size", BudgetSpec("size", 2048.0, "absolute")),
        ("1MiB", "size", BudgetSpec("size", 1_048_576.0, "absolute")),
        ("1.5GBOP", "bops", BudgetSpec("bops", 1.5e9, "absolute")),
        ("4bits", "energy", BudgetSpec("energy", 4.0, "bits")),
        ("60%", "latency", BudgetSpec("latency", 0.6, "ratio")),
        ("size=60.0 %", "latency", BudgetSpec("size", 0.6, "ratio")),
        ("100\u00b5s", "latency", BudgetSpec("latency", 1e-4, "absolute")),
        ("100 \u03bcs", "latency", BudgetSpec("latency", 1e-4, "absolute")),
        ("7\u00b5J", "energy", BudgetSpec("energy", 7e-6, "absolute")),
        ("1.5 kB", "size", BudgetSpec("size", 1500.0, "absolute")),
    ],
)
def test_parse_budget_reads_ratios_units_and_bits(text: str, objective: Objective, expected: BudgetSpec) -> None:
    spec = parse_budget(text, objective)
    assert (spec.objective, spec.kind) == (expected.objective, expected.kind)
    assert spec.value == pytest.approx(expected.value, rel=1e-12)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a number"),
        ("much", "not a number"),
        ("0,6", "not a number"),
        ("600%", "at most 100 %"),
        ("60%%", "not a number"),
        ("60%ms", "not a number"),
        ("1.2.3", "not a number"),
        ("0x10", "not a number"),
        ("\uff11\uff12ms", "not a number"),
        ("0", "positive"),
        ("-0.5", "positive"),
        ("-3ms", "positive"),
        ("nan", "positive"),
        ("inf", "positive"),
        ("1e400", "positive"),
        ("1e308s", "unit"),
        ("1e-323us", "positive"),
        ("1.01", "ratio"),
        ("12", "s, ms, us"),
        ("3mJ", "not a unit of latency"),
        ("12MS", "not a unit"),
        ("12minutes", "not a unit"),
        ("speed=0.5", "latency, energy, size, bops"),
        ("=0.5", "unknown objective"),
        ("latency=size=0.5", "unknown objective"),
        ("size=", "not a number"),
    ],
)
def test_invalid_budgets_are_refused_in_one_line_that_repeats_them(text: str, says: str) -> None:
    objective: Objective = "size" if text == "1e308s" else "latency"
    with pytest.raises(UserError, match="budget") as caught:
        parse_budget(text, objective)
    assert says in str(caught.value)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "objective"), [("1e308GB", "size"), ("1e305GBOP", "bops")])
def test_a_number_that_overflows_with_its_unit_is_refused(text: str, objective: Objective) -> None:
    with pytest.raises(UserError, match="positive"):
        parse_budget(text, objective)


@given(st.text(max_size=12))
def test_arbitrary_text_is_a_budget_or_a_user_error(text: str) -> None:
    try:
        spec = parse_budget(text, "latency")
    except UserError:
        return
    assert 0 < spec.value < float("inf")
    assert spec.kind != "ratio" or spec.value <= 1


@given(st.sampled_from(sorted(UNITS)), st.floats(1e-3, 1e6))
def test_every_unit_belongs_to_one_objective(unit: str, number: float) -> None:
    objective, factor = UNITS[unit]
    assert parse_budget(f"{number!r}{unit}", objective).value == pytest.approx(number * factor)
    for other in set(OBJECTIVES) - {objective}:
        with pytest.raises(UserError, match="not a unit"):
            parse_budget(f"{number!r}{unit}", other)


def test_budget_of_the_objective_comes_first() -> None:
    specs = parse_budgets(("size=10kB", "0.6", "energy=0.9"), "latency")
    assert [spec.objective for spec in specs] == ["latency", "size", "energy"]


@pytest.mark.parametrize(
    ("texts", "says"),
    [(("0.5", "latency=12ms"), "two budgets for latency"), (("size=0.5",), "--budget latency=0.6"), ((), "--budget")],
)
def test_contradicting_budgets_are_refused(texts: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        parse_budgets(texts, "latency")


BASELINE = Cost(cycles=None, latency_s=0.02, energy_j=None, weight_bytes=1000.0, bops=1e6, macs=1)


def uniform(bits: int) -> Cost:
    return Cost(cycles=None, latency_s=0.004 * bits, energy_j=None, weight_bytes=100.0 * bits, bops=1e4 * bits, macs=1)


def test_resolve_gives_limit_and_ratio_to_uniform_8_bits() -> None:
    relative = parse_budget("0.6", "latency").resolve(BASELINE, hardware="desk", uniform=uniform)
    assert relative.budget.limit == pytest.approx(0.012)
    assert relative.ratio == pytest.approx(0.6)
    absolute = parse_budget("250B", "size").resolve(BASELINE, hardware="desk", uniform=uniform)
    assert (absolute.budget.limit, absolute.ratio) == (250.0, 0.25)


def test_bits_resolve_to_the_cost_of_uniform_bits() -> None:
    found = parse_budget("size=3bits", "latency").resolve(BASELINE, hardware="desk", uniform=uniform)
    assert (found.budget.objective, found.budget.limit, found.ratio) == ("size", 300.0, 0.3)


@pytest.mark.parametrize("text", ["0bits", "9bits", "2.5bits", "-1bits"])
def test_budgets_in_bits_are_whole_numbers_from_1_to_8(text: str) -> None:
    with pytest.raises(UserError, match="from 1 to 8"):
        parse_budget(text, "latency")


def test_budget_on_a_cost_without_a_model_is_refused() -> None:
    with pytest.raises(UserError, match="desk does not model energy"):
        parse_budget("0.6", "energy").resolve(BASELINE, hardware="desk", uniform=uniform)


@pytest.mark.parametrize(
    ("text", "seconds"), [("2h", 7200), ("1h30m", 5400), ("45s", 45), ("1.5m", 90), ("1h2m3s", 3723), (" 2h ", 7200)]
)
def test_parse_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "h", "1d", "-1h", "0s", "1h 30m", "1e3s", "nan", "soon", "9" * 400 + "h"])
def test_invalid_durations_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="2h, 1h30m or 45s"):
        parse_duration(text)


@given(st.sampled_from(OBJECTIVES), st.floats(1e-9, 1e12))
def test_printed_costs_are_valid_budgets(objective: Objective, value: float) -> None:
    spec = parse_budget(f"{objective}={format_cost(objective, value)}", "latency")
    assert (spec.objective, spec.kind) == (objective, "absolute")
    assert spec.value == pytest.approx(value, rel=0.00501)
    assert format_cost(objective, spec.value) == format_cost(objective, value)


@given(st.floats(0.001, 1.0))
def test_printed_ratios_are_valid_budgets(ratio: float) -> None:
    spec = parse_budget(percent(ratio), "latency")
    assert spec.kind == "ratio"
    assert spec.value == pytest.approx(ratio, abs=0.000501)
