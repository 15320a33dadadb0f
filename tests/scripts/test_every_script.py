"""Every script imports, and every one that is a program answers --help."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from agents.registry import METHODS

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PATHS = sorted(path.relative_to(SCRIPTS).as_posix() for path in SCRIPTS.rglob("*.py"))
PROGRAMS = [path for path in PATHS if '__name__ == "__main__"' in (SCRIPTS / path).read_text(encoding="utf-8")]
ON_TOP = {"export_policy.py", "plot_policy.py"}


def test_only_searches_plot_and_export_are_on_top() -> None:
    on_top = {path for path in PATHS if "/" not in path}
    assert on_top == ON_TOP | {path for path in on_top if path.startswith("search_")}
    assert {path.partition("/")[0] for path in PATHS} - on_top == {"benchmarks", "experiments", "peers"}


def test_names_are_unique_across_folders() -> None:
    names = [Path(path).name for path in PATHS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", sorted(set(PATHS) - set(PROGRAMS)))
def test_shared_modules_import(path: str, load_script: Callable[[str], ModuleType]) -> None:
    assert load_script(path.removesuffix(".py")).__doc__


@pytest.mark.parametrize("path", PROGRAMS)
def test_help(path: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    script = SCRIPTS / path
    # A program may register search methods of its own, which no later test is to see.
    registered = set(METHODS)
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    monkeypatch.syspath_prepend(str(script.parent))
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    for name in set(METHODS) - registered:
        del METHODS[name]
    assert not ended.value.code
    assert "usage" in capsys.readouterr().out.lower()
