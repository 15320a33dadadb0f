"""Import scripts by their path, with their folder on the import path as when Python runs them."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.fixture(scope="session")
def load_script() -> Callable[[str], ModuleType]:
    """A function from a path below `scripts`, such as `peers/answers`, to the module."""

    def load(path: str) -> ModuleType:
        folder, _, name = path.rpartition("/")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "path", [str(SCRIPTS / folder), *sys.path])
            return importlib.import_module(name)

    return load
