"""What tests share: where real data lies, and a cache that leaves the user's own alone."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from haq.network.models import digits_training, shapes_training, trained_weights

SharedRun = Callable[[str, Callable[[Path], object]], Path]
# No test fails because the machine is slow.
settings.register_profile("haq", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("haq")
ROOT = Path(__file__).resolve().parent.parent


def _folder(path: Path) -> Path:
    if not path.is_dir():
        pytest.skip(f"no folder {path}; set HAQ_DATA to the data sets")
    return path


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The data sets and weights that HAQ_DATA points to."""
    return _folder(Path(os.environ.get("HAQ_DATA", ROOT.parent / "shared" / "data")))


@pytest.fixture(scope="session")
def reference_dir(data_dir: Path) -> Path:
    """Published and simulated numbers, beside the data."""
    return _folder(data_dir.parent / "reference")


@pytest.fixture(scope="session")
def session_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of this session of tests that all its processes share."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time in."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def shared_run(session_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> SharedRun:
    """Give this process its copy of a run that one process of the session made; others wait for it."""

    def give(name: str, make: Callable[[Path], object]) -> Path:
        made, mark = session_dir / name, session_dir / f"{name}.made"
        with _locked(session_dir / f"{name}.lock"):
            if not mark.exists():
                make(made)
                mark.touch()
        return Path(shutil.copytree(made, tmp_path_factory.mktemp(name) / "run"))

    return give


@pytest.fixture(scope="session", autouse=True)
def _patient() -> Iterator[None]:
    """A mistake is the only line on standard error, however slow the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haq.cli.progress.HOLD_SECONDS", 1e6)
        # Tests that replace parts of the calibration must not get what another test has stored.
        patch.setattr("haq.experiment.stored_preparation.WORTH_STORING_S", 1e6)
        yield


@pytest.fixture(scope="session", autouse=True)
def _own_cache(session_dir: Path) -> Iterator[None]:
    """Tests cache in a folder of their own, unless HAQ_CACHE names one; embedded networks are trained once."""
    train = trained_weights.load_or_train

    def load_or_train(*arguments: Any, **settings: Any) -> None:
        with _locked(session_dir / "training.lock"):
            train(*arguments, **settings)

    with pytest.MonkeyPatch.context() as patch:
        if "HAQ_CACHE" not in os.environ:
            patch.setenv("HAQ_CACHE", str(session_dir / "cache"))
        for module in (digits_training, shapes_training):
            patch.setattr(module, "load_or_train", load_or_train)
        yield
