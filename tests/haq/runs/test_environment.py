"""Recorded environment of a run."""

import subprocess
from pathlib import Path

import pytest

from haq.runs import environment
from haq.runs.environment import describe_environment


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """File of the package in an environment inside another repository."""
    file = tmp_path / "venv" / "haq" / "environment.py"
    file.parent.mkdir(parents=True)
    file.touch()
    (tmp_path / "thesis.txt").touch()
    for command in (["init", "-q"], ["add", "thesis.txt"], ["commit", "-q", "-m", "Begin"]):
        identity = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *command], check=True)
    monkeypatch.setattr(environment, "__file__", str(file))
    return file


@pytest.mark.usefixtures("installed")
def test_commit_of_an_enclosing_repository_is_not_recorded() -> None:
    assert describe_environment(seed=0, device="cpu")["commit"] is None


def test_commit_of_haq_checkout_is_recorded(installed: Path) -> None:
    subprocess.run(["git", "-C", str(installed.parent), "add", installed.name], check=True)
    assert len(describe_environment(seed=0, device="cpu")["commit"]) == 40
