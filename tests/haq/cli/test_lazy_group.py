"""Commands that are imported when they are called."""

import subprocess
import sys
from collections.abc import Sequence

import pytest
import typer

from haq.__main__ import main
from haq.cli.app import app

GROUP = typer.main.get_group(app)
WITHOUT_TORCH = (
    "import sys; from haq.__main__ import main; code = main({}); sys.exit(9 if 'torch' in sys.modules else code)"
)


@pytest.mark.parametrize("name", GROUP.commands)
def test_listed_summary_is_the_first_line_of_the_command(name: str) -> None:
    help_text = GROUP.commands[name].help or ""
    assert GROUP.entries[name].summary == help_text.strip().splitlines()[0]  # type: ignore[attr-defined]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"]])
def test_help_does_not_import_torch(arguments: Sequence[str]) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH.format(arguments)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0


def test_mistyped_commands_are_corrected(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serch"]) == 2
    assert "Did you mean 'search'?" in capsys.readouterr().err


def test_without_a_command_first_steps_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "haq search" in capsys.readouterr().out


def test_names_of_commands_are_completed_without_importing_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_HAQ_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "haq se")
    monkeypatch.setenv("COMP_CWORD", "1")
    command = [sys.executable, "-X", "importtime", "-m", "haq"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["search", "sensitivity"])
    assert "haq.cli.app" in done.stderr
    assert "torch" not in done.stderr
