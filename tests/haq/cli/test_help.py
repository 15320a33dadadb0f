"""Help of the commands: readable first lines, and options under the headings of their groups."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from haq.__main__ import main
from haq.cli.app import app
from haq.settings import GROUPS


def commands(command: Any = None, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands with the words that call them."""
    command = command or typer.main.get_command(app)
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


COMMANDS = dict(commands())


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_first_line_is_one_short_sentence(words: tuple[str, ...]) -> None:
    first = (COMMANDS[words].help or "").strip().split("\n\n")[0]
    assert re.fullmatch(r"[A-Z][^.]*\.", first), first
    assert words == () or len(first) <= 63


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_option_has_a_description(words: tuple[str, ...]) -> None:
    assert not [each.name for each in COMMANDS[words].params if not each.help]


def test_search_lists_every_setting_under_the_heading_of_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    main(["search", "--help"])
    text = capsys.readouterr().out
    sections = dict(re.findall(r"^([A-Z][a-z ]+):\n((?:  .*\n|\n)+)", text, flags=re.MULTILINE))
    assert list(sections)[1:] == [group.heading for group in GROUPS]
    for group in GROUPS:
        listed = re.findall(r"^  --([a-z-]+)", sections[group.heading], flags=re.MULTILINE)
        assert listed == [name.replace("_", "-") for name in group.model_fields]
    assert "--out" in sections["Options"]
    assert max(map(len, text.splitlines())) <= 80
