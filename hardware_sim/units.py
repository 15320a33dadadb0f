"""Suggestions for misspelled keys of device files, and for keys in another unit."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

UNITS: Mapping[str, tuple[str, float]] = {
    "khz": ("hz", 1e3),
    "mhz": ("hz", 1e6),
    "ghz": ("hz", 1e9),
    "kb": ("bytes", 1e3),
    "mb": ("bytes", 1e6),
    "gb": ("bytes", 1e9),
    "kib": ("bytes", 2**10),
    "mib": ("bytes", 2**20),
    "gib": ("bytes", 2**30),
    "bytes": ("bits", 8),
    "bits": ("bytes", 1 / 8),
    "byte": ("bit", 1 / 8),
    "bit": ("byte", 8),
    "uw": ("w", 1e-6),
    "mw": ("w", 1e-3),
    "kw": ("w", 1e3),
    "fj": ("pj", 1e-3),
    "nj": ("pj", 1e3),
    "uj": ("pj", 1e6),
    "gmacs": ("macs", 1e9),
    "tmacs": ("macs", 1e12),
    "ops": ("macs", 1 / 2),
    "gops": ("macs", 1e9 / 2),
    "tops": ("macs", 1e12 / 2),
}
"""Unit in a key: the unit that may be expected instead, and the factor to convert to it."""


def unit_hint(key: str, value: object, known: Iterable[str]) -> str | None:
    """Suggest the known key that differs from an unknown one only in its unit.

    Args:
        key: The unknown key.
        value: Its value.
        known: The keys that exist.

    Returns:
        The known key with the converted value; None if there is no such key.

    Example:
        >>> unit_hint("clock_mhz", 200, ["clock_hz", "batch"])
        'clock_hz = 2e+08'
        >>> unit_hint("flash_kib", 512, ["flash_bytes"])
        'flash_bytes = 524288'
    """
    keys = set(known)
    parts = key.lower().split("_")
    for index, part in enumerate(parts):
        unit, factor = UNITS.get(part, (part, 1.0))
        right = "_".join((*parts[:index], unit, *parts[index + 1 :]))
        if right in keys and right != key:
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return f"{right} = {_number(value * factor)}" if is_number else right  # type: ignore[operator]
    return None


def closest_key(key: str, known: Iterable[str]) -> str | None:
    """Suggest the known key that was probably meant: the same with a unit, or one that is spelled similarly.

    Args:
        key: The unknown key.
        known: The keys that exist.

    Returns:
        The suggestion; None if no key is close.

    Example:
        >>> closest_key("ram", ["ram_bytes", "clock_hz"]), closest_key("clok_hz", ["ram_bytes", "clock_hz"])
        ('ram_bytes', 'clock_hz')
    """
    keys = list(known)
    with_unit = [each for each in keys if each.startswith(f"{key}_")]
    return next(iter(with_unit or get_close_matches(key[:80], keys, n=1)), None)


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e7 else f"{value:g}"
