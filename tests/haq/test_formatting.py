from hypothesis import given
from hypothesis import strategies as st

from haq.formatting import (
    BYTES,
    SECONDS,
    format_bytes,
    format_cost,
    format_count,
    format_quantity,
    format_seconds,
    percent,
)


def test_unit_is_chosen_after_rounding() -> None:
    assert format_seconds(0.99996) == "1 s"
    assert format_bytes(1023.6) == "1 KiB"
    assert format_bytes(1023) == "1023 B"


def test_values_beyond_last_unit_keep_all_digits() -> None:
    assert format_seconds(12345.0) == "12345 s"
    assert format_bytes(5e15) == "4656613 GiB"


def test_format_cost_of_every_objective() -> None:
    values = {"latency": 0.0521, "energy": 2.5e-3, "size": 2048.0, "bops": 1.92e10}
    shown = [format_cost(objective, value) for objective, value in values.items()]  # type: ignore[arg-type]
    assert shown == ["52.1 ms", "2.5 mJ", "2 KiB", "19.2 GBOP"]
    assert format_cost("latency", None) == "-"


def test_counts_and_percentages() -> None:
    assert format_count(3_469_760) == "3.47 M"
    assert percent(0.59817) == "59.8 %"
    assert percent(0.59817, digits=2) == "59.82 %"


@given(st.floats(1e-9, 1e9))
def test_rounding_error_is_at_most_half_of_third_digit(seconds: float) -> None:
    number, unit = format_quantity(seconds, SECONDS, zero="0 s").split()
    size = {name: size for size, name in SECONDS}[unit]
    assert abs(float(number) * size - seconds) <= 0.0051 * seconds


@given(st.integers(1, 10**12))
def test_larger_values_have_no_smaller_unit(count: int) -> None:
    units = [name for _, name in BYTES]
    smaller, larger = (format_bytes(value).split()[1] for value in (count, 2 * count))
    assert units.index(smaller) <= units.index(larger)
