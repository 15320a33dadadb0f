"""Parsing of budgets such as `0.6`, `60 %`, `12ms`, `4bits` or `size=0.5`, and of durations such as `1h30m`."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite
from typing import Literal, get_args

from envs.choices import Budget
from haq.errors import UserError, suggestion
from hardware_sim.cost import Cost, Objective

UNITS: dict[str, tuple[Objective, float]] = {
    "s": ("latency", 1.0),
    "ms": ("latency", 1e-3),
    "us": ("latency", 1e-6),
    "ns": ("latency", 1e-9),
    "J": ("energy", 1.0),
    "mJ": ("energy", 1e-3),
    "uJ": ("energy", 1e-6),
    "nJ": ("energy", 1e-9),
    "pJ": ("energy", 1e-12),
    "B": ("size", 1.0),
    "kB": ("size", 1e3),
    "MB": ("size", 1e6),
    "GB": ("size", 1e9),
    "KiB": ("size", 2.0**10),
    "MiB": ("size", 2.0**20),
    "GiB": ("size", 2.0**30),
    "BOP": ("bops", 1.0),
    "kBOP": ("bops", 1e3),
    "MBOP": ("bops", 1e6),
    "GBOP": ("bops", 1e9),
    "TBOP": ("bops", 1e12),
}
"""Objective and factor to SI units of every unit that `haq.formatting` writes, with `u` for the micro sign."""
MICRO = str.maketrans("\u00b5\u03bc", "uu")
"""Translation table that replaces the micro sign and the Greek letter mu by `u`."""
_VALUE = re.compile(r"\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?|[-+]?nan|[-+]?inf)\s*([A-Za-z]*|%)\s*")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}


@dataclass(frozen=True, slots=True)
class BudgetSpec:
    """Budget as written by the user, not yet resolved for a network."""

    objective: Objective
    value: float
    """Ratio to the cost of uniform 8/8 bits, cost in SI units, or number of uniform bits, by `kind`."""
    kind: Literal["ratio", "absolute", "bits"]

    def resolve(self, baseline: Cost, *, hardware: str, uniform: Callable[[int], Cost]) -> "ResolvedBudget":
        """Resolve the budget of a network to an absolute limit.

        Args:
            baseline: Cost of uniform 8/8 bits.
            hardware: Name of the device, for messages.
            uniform: Function from a number of bits to the cost of a policy with these bits in every layer.

        Returns:
            The limit in SI units, and its ratio to the baseline.

        Raises:
            UserError: The device does not model the objective.
        """
        base = baseline.of(self.objective)
        if base is None:
            raise UserError(f"{hardware} does not model {self.objective}; choose another --objective or --hardware")
        if self.kind == "bits":
            limit = uniform(int(self.value)).of(self.objective) or 0.0
        else:
            limit = self.value * base if self.kind == "ratio" else self.value
        return ResolvedBudget(Budget(self.objective, limit), limit / base)

    def __str__(self) -> str:
        """Format the value without its objective and, for an absolute value, without its unit."""
        return f"{self.value:g}{'bits' if self.kind == 'bits' else ''}"


@dataclass(frozen=True, slots=True)
class ResolvedBudget:
    """Budget as an absolute limit, and as a ratio to the cost of uniform 8/8 bits over all layers."""

    budget: Budget
    ratio: float


def parse_budget(text: str, objective: Objective) -> BudgetSpec:
    """Parse a budget.

    Args:
        text: `[OBJECTIVE=]VALUE[UNIT]`; without a unit, a ratio to the cost of uniform 8/8 bits; `4bits` is the cost of
            uniform 4 bits.
        objective: Objective of a budget that does not name one.

    Returns:
        The budget, an absolute value in SI units.

    Raises:
        UserError: The text is no budget; the message says which texts are valid.

    Examples:
        >>> parse_budget("0.6", "latency") == parse_budget("60 %", "latency")
        True
        >>> parse_budget("0.6", "latency")
        BudgetSpec(objective='latency', value=0.6, kind='ratio')
        >>> parse_budget("size=250kB", "latency")
        BudgetSpec(objective='size', value=250000.0, kind='absolute')
        >>> parse_budget("4bits", "energy")
        BudgetSpec(objective='energy', value=4.0, kind='bits')
    """
    name, equals, value = text.rpartition("=")
    if equals and name not in get_args(Objective):
        hint = f"{suggestion(name, get_args(Objective))}; known are {', '.join(get_args(Objective))}"
        raise UserError(f"budget {text!r}: unknown objective {name!r}{hint}")
    chosen: Objective = name or objective  # type: ignore[assignment]
    match = _VALUE.fullmatch(value.translate(MICRO))
    number = _number(match[1]) if match else None
    if match is None or number is None:
        raise UserError(
            f"budget {text!r} is not a number; write a ratio such as 0.6 or a value with a unit such as 12ms"
        )
    unit = match[2]
    if unit in ("bit", "bits"):
        if number not in range(1, 9):
            raise UserError(f"budget {text!r}: uniform bits are a whole number from 1 to 8, such as 4bits")
        return BudgetSpec(chosen, number, "bits")
    if unit == "%":
        number, unit = number / 100, ""
    if unit and (unit not in UNITS or UNITS[unit][0] != chosen):
        raise UserError(f"budget {text!r}: {unit!r} is not a unit of {chosen}; {_units(chosen)}")
    number *= UNITS[unit][1] if unit else 1
    if not isfinite(number) or number <= 0:
        raise UserError(f"budget {text!r} must be a positive number")
    if not unit:
        if number > 1:
            raise UserError(
                f"budget {text!r}: a value without a unit is a ratio of 8-bit cost in (0, 1], at most 100 %; "
                f"{_units(chosen)}"
            )
        return BudgetSpec(chosen, number, "ratio")
    return BudgetSpec(chosen, number, "absolute")


@lru_cache(maxsize=1024)
def parse_budgets(texts: tuple[str, ...], objective: Objective) -> tuple[BudgetSpec, ...]:
    """Parse all budgets of a run.

    Args:
        texts: Budgets as `parse_budget` takes them.
        objective: Objective of the run.

    Returns:
        The budgets, that of the objective first.

    Raises:
        UserError: A text is no budget, an objective has two budgets, or the objective of the run has none.
    """
    specs = [parse_budget(text, objective) for text in texts]
    names = [spec.objective for spec in specs]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two budgets for {name}: give one")
    if objective not in names:
        raise UserError(f"the objective is {objective} but no --budget limits it; add --budget {objective}=0.6")
    return tuple(sorted(specs, key=lambda spec: spec.objective != objective))


def parse_duration(text: str) -> float:
    """Parse a duration.

    Args:
        text: Hours, minutes and seconds, such as `2h`, `1h30m` or `45s`.

    Returns:
        The duration in seconds, greater than 0.

    Raises:
        UserError: The text is no duration.

    Examples:
        >>> parse_duration("1h30m")
        5400.0
    """
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([hms])", text)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text.strip() or not 0 < seconds < inf:
        raise UserError(f"time {text!r} is not a duration; write for instance 2h, 1h30m or 45s")
    return seconds


def _units(objective: Objective) -> str:
    return f"its units are {', '.join(unit for unit, (measured, _) in UNITS.items() if measured == objective)} and bits"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
