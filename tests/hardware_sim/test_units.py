"""Suggestions for keys in another unit."""

import pytest

from hardware_sim.units import closest_key, unit_hint

KEYS = ("clock_hz", "memory_bytes_per_s", "port_bits", "flash_bytes", "active_w", "dram_pj_per_bit", "macs_per_s")


@pytest.mark.parametrize(
    ("key", "value", "hint"),
    [
        ("clock_mhz", 200, "clock_hz = 2e+08"),
        ("clock_ghz", 1.5, "clock_hz = 1.5e+09"),
        ("memory_gb_per_s", 34, "memory_bytes_per_s = 3.4e+10"),
        ("port_bytes", 8, "port_bits = 64"),
        ("flash_kib", 2, "flash_bytes = 2048"),
        ("flash_kb", 2, "flash_bytes = 2000"),
        ("active_mw", 300, "active_w = 0.3"),
        ("dram_nj_per_bit", 0.5, "dram_pj_per_bit = 500"),
        ("dram_pj_per_byte", 120, "dram_pj_per_bit = 15"),
        ("tops_per_s", 2, "macs_per_s = 1e+12"),  # a MAC is two operations
        ("clock_mhz", "fast", "clock_hz"),
        ("clock_mhz", True, "clock_hz"),
        ("watts", 3, None),
        ("clock_hz", 3, None),
        ("colour", 3, None),
    ],
)
def test_unit_hint(key: str, value: object, hint: str | None) -> None:
    assert unit_hint(key, value, KEYS) == hint


def test_closest_key_adds_unit() -> None:
    assert closest_key("clock", KEYS) == "clock_hz"
    assert closest_key("flash", KEYS) == "flash_bytes"
    assert closest_key("zzz", KEYS) is None
