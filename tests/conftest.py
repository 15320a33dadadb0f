"""What tests share: where real data lies, and a cache that leaves the user's own alone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

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


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests train and cache in a folder of their own, unless HAQ_CACHE names one."""
    with pytest.MonkeyPatch.context() as patch:
        if "HAQ_CACHE" not in os.environ:
            patch.setenv("HAQ_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
