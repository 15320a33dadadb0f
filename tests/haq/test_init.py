"""Importing haq where other packages of the same names are installed, and the names it offers."""

import subprocess
import sys
from pathlib import Path
from types import FunctionType

import pytest

import haq


@pytest.mark.parametrize("place", ["agents/__init__.py", "envs.py", "hardware_sim/__init__.py"])
def test_a_foreign_package_of_the_same_name_stops_haq(place: str, tmp_path: Path) -> None:
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("ours = False\n")
    name = Path(place).parts[0].removesuffix(".py")
    # Python looks into the current folder first.
    command = [sys.executable, "-m", "haq", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ImportError: haq needs its own package '{name}' from {Path(haq.__file__).parent.parent}")
    assert f"but Python finds {tmp_path / place};" in last
    assert last.endswith("install haq in a virtual environment of its own")


def test_what_is_offered_is_there() -> None:
    assert {"search", "simulate", "load_policy"} <= set(haq.__all__)
    for name in haq.__all__:
        assert isinstance(getattr(haq, name), FunctionType)


def test_no_submodule_bears_the_name_of_a_public_function() -> None:
    folder = Path(haq.__file__).parent
    assert {path.stem for path in folder.iterdir()}.isdisjoint(haq.__all__)
