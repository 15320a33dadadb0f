"""Comparison of the settings that a run was started with and those that a command has now."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from haq.runs.version import ADDED_SETTINGS

_SHOWN = 4


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any], *, left_out: Collection[str | None]) -> str:
    """Describe the settings that differ.

    Args:
        before: Settings of the run, as its `config.json` has them.
        now: Settings of the command, of values that JSON has.
        left_out: Names that are not compared.

    Returns:
        Names and both values of the first four settings, and the number of the others; empty if none differ.

    Examples:
        >>> changed_settings({"seed": 0, "model": "net"}, {"seed": 1, "model": "net"}, left_out=())
        'seed 0 there, 1 now'
    """
    ours = json.loads(json.dumps(now))
    theirs = {**{name: value for name, value in ADDED_SETTINGS.items() if name in ours}, **before}
    names = sorted((theirs.keys() | ours.keys()) - set(left_out))
    found = [each for name in names for each in _changes(name, theirs.get(name), ours.get(name))]
    shown = [f"{name} {json.dumps(there)} there, {json.dumps(now)} now" for name, there, now in found[:_SHOWN]]
    return "; ".join(shown) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def _changes(name: str, there: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield the name and both values of a setting that differs; for a group of settings, of each that differs."""
    if not (isinstance(there, dict) and isinstance(now, dict)):
        if there != now:
            yield name, there, now
        return
    for key in sorted(there.keys() | now.keys()):
        if there.get(key) != now.get(key):
            yield f"{name}.{key}", there.get(key), now.get(key)
