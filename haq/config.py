"""Configuration of a run: the settings of all groups, validated together."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from haq.budgets import parse_budgets
from haq.errors import UserError, validation_message
from haq.settings import (
    BitSettings,
    BudgetSettings,
    DataSettings,
    DeviceSettings,
    ModelSettings,
    QuantizerSettings,
    SearchSettings,
)

EIGHT_BITS = ("1",)
"""Budget equal to the cost of uniform 8 bits."""


class SearchConfig(  # pydantic orders fields from the last base to the first
    SearchSettings, QuantizerSettings, BitSettings, BudgetSettings, DeviceSettings, DataSettings, ModelSettings
):
    """Immutable, validated configuration of a run: the settings of all groups.

    Fields are the flags of `haq search`; `first_last_bits` None searches these layers like the others. `config.json` of
    a run holds the fields without their groups.
    """


def search_config(**settings: Any) -> SearchConfig:
    """Validate settings.

    Args:
        settings: Fields of `SearchConfig`. `budget` may be a number, a text, several of them, or a mapping from
            objectives to them. With `max_accuracy_drop`, in points of accuracy, the budget is the cost of 8 bits, and
            any other is refused.

    Returns:
        The configuration, with defaults for missing settings; `model_fields_set` contains the names of the others.

    Raises:
        UserError: A setting is unknown or has a wrong value; the message names the setting, the value and valid values.

    Examples:
        >>> search_config(episodes=20, budget={"latency": 0.6, "size": "250kB"}).budget
        ('latency=0.6', 'size=250kB')
    """
    budget = settings.pop("budget", None)
    if budget is not None:
        settings["budget"] = _budget_texts(budget)
    if settings.get("max_accuracy_drop") is not None:
        if settings.get("budget", EIGHT_BITS) != EIGHT_BITS:
            raise UserError("--budget limits the cost and --max-accuracy-drop looks for the least: give one of them")
        settings["budget"] = EIGHT_BITS
    elif settings.get("confidence") is not None:
        raise UserError("--confidence needs --max-accuracy-drop, such as --max-accuracy-drop 1")
    try:
        config = SearchConfig(**settings)
    except ValidationError as error:
        raise UserError(_first_problem(error)) from error
    parse_budgets(config.budget, config.objective)
    return config


def _budget_texts(budget: object) -> tuple[str, ...]:
    """Write budgets as on the command line."""
    if isinstance(budget, Mapping):
        return tuple(f"{objective}={value}" for objective, value in budget.items())
    several = budget if isinstance(budget, list | tuple) else (budget,)
    return tuple(str(each) for each in several)


def _first_problem(error: ValidationError) -> str:
    """Describe the first problem, for an unknown setting with the most similar valid name."""
    problem = error.errors(include_url=False)[0]
    if problem["type"] != "extra_forbidden":
        return validation_message(error, as_flag=True)
    setting = str(problem["loc"][0])
    close = get_close_matches(setting, SearchConfig.model_fields, n=1)
    return f"unknown setting {setting!r}" + (f"; did you mean {close[0]!r}?" if close else "")
