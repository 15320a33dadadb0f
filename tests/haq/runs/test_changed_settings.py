"""Settings of a run and of the command that is to go on with it: what differs is named with both values."""

import pytest

from haq.runs.changed_settings import changed_settings

SETTINGS = {"model": "net", "seed": 0, "budget": ["0.6"], "train": {"epochs": 1, "lr": 0.1}, "weights": None}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ""),
        ({"budget": ("0.6",)}, ""),
        (
            {"budget": ("0.5", "size=0.3"), "seed": 1},
            'budget ["0.6"] there, ["0.5", "size=0.3"] now; seed 0 there, 1 now',
        ),
        ({"train": {"epochs": 2, "lr": 0.1}}, "train.epochs 1 there, 2 now"),
        ({"pin": None}, ""),
        ({"pin": {"a": 4}}, 'pin null there, {"a": 4} now'),
        ({"proposals": 1}, ""),
        ({"proposals": 2}, "proposals 1 there, 2 now"),
    ],
    ids=["equal", "a tuple", "two settings", "in a group", "nothing", "not there", "as before it existed", "added"],
)
def test_what_differs_is_named_with_both_values(changes: dict[str, object], expected: str) -> None:
    assert changed_settings(SETTINGS, SETTINGS | changes, left_out=()) == expected


def test_settings_that_the_command_does_not_have_are_named() -> None:
    now = {name: value for name, value in SETTINGS.items() if name != "seed"}
    assert changed_settings(SETTINGS, now, left_out=()) == "seed 0 there, null now"
    assert changed_settings(SETTINGS, now, left_out=("seed", None)) == ""


def test_many_differences_are_counted() -> None:
    before, now = ({f"s{number}": value for number in range(9)} for value in (0, 1))
    assert changed_settings(before, now, left_out=()).endswith("s3 0 there, 1 now; and 5 more")
