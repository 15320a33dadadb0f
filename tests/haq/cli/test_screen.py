"""Tables and lines on terminals of some width, and in pipes."""

import re
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haq.cli.screen import fit, progress_bar, write_table, write_text
from haq.formatting import shorten_all
from haq.tables import Table

names = st.lists(st.text("abc.0123", min_size=1, max_size=40), min_size=1, max_size=6, unique=True)
MARKUP = "[red]net:loop:[/]"


class Terminal(StringIO):
    """A terminal whose width the variable COLUMNS says."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """What it shows, without styles."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.getvalue()).splitlines()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("COLUMNS", "40")
    return Terminal()


def table(columns: int = 3, *, name: str = "features.17.conv.0.0") -> Table:
    cells = (name, *("123.4 µs" for _ in range(columns)))
    return Table(("layer", *map(str, range(columns))), (cells,))


@pytest.mark.parametrize("columns", [1, 3, 9])
def test_tables_fit_the_terminal(columns: int, terminal: Terminal) -> None:
    write_table("a title", table(columns), terminal)
    lines = terminal.lines
    assert max(map(len, lines)) <= 40
    assert sum(line.count("123.4 µs") for line in lines) == columns
    assert all(line.startswith("feat") for line in lines if "µs" in line)


def test_lines_are_not_wrapped_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    pipe = StringIO()
    write_table("a title " + "long " * 99, table(30), pipe)
    write_text("word " * 99 + "end", pipe)
    title, _, cells, text = (line.rstrip() for line in pipe.getvalue().splitlines())
    assert title.endswith("long")
    assert (cells.count("µs"), text[-8:]) == (30, "word end")


def test_lines_are_wrapped_between_words(terminal: Terminal) -> None:
    write_text("note: " + "measured " * 9, terminal)
    first, *others = terminal.lines
    assert first == "note: measured measured measured"
    assert all(line.startswith("  measured") and len(line) <= 40 for line in others)


@given(names, st.integers(5, 20))
def test_shortened_names_stay_distinct(drawn: list[str], longest: int) -> None:
    short = shorten_all(drawn, longest)
    assert len(set(short)) == len(drawn)
    assert all(each in drawn or "…" in each for each in short)
    assert all(len(each) <= len(name) for each, name in zip(short, drawn, strict=True))


def test_names_are_printed_literally() -> None:
    pipe = StringIO()
    write_table(MARKUP, Table((f"{MARKUP} column",), ((MARKUP,),)), pipe)
    write_text(MARKUP, pipe)
    assert [line.strip() for line in pipe.getvalue().splitlines()] == [MARKUP, f"{MARKUP} column", MARKUP, MARKUP]


def test_control_characters_do_not_reach_the_terminal(terminal: Terminal) -> None:
    write_text("a\x1b[2Jb\rc", terminal)
    write_table("t\x1b[2J", Table(("x",), (("\x1b[2J",),)), terminal)
    assert "\x1b[2J" not in terminal.getvalue()
    assert "\r" not in terminal.getvalue()


def test_progress_is_printed_literally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    bar = progress_bar("{task.description}")
    bar.add_task(MARKUP)
    with bar.console.capture() as captured:
        bar.console.print(bar.get_renderable())
    assert MARKUP in captured.get()


def test_columns_that_do_not_fit_continue_below() -> None:
    wide = Table(("policy", "device", "x", "y"), (("some-very-long-name-of-a-policy", "chip", "1", "2"),), 2)
    blocks = list(fit(wide, 30))
    assert [each.columns for each in blocks] == [("policy", "device", "x", "y")]
    assert list(fit(wide, 12))[-1].columns == ("policy", "device", "y")


def test_names_are_not_shortened_where_that_saves_no_table() -> None:
    name = "blocks.0.depthwise.0"
    wide = Table(("layer", *"abcd"), ((name, *("123456789",) * 4),))
    assert [(each.columns, each.rows[0][0]) for each in fit(wide, 42)] == [
        (("layer", "a", "b"), name),
        (("layer", "c", "d"), name),
    ]
    assert [each.rows[0][0] for each in fit(wide, 40)] == ["bloc…hwise.0"] * 2
