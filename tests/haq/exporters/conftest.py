"""What the tests of exporters share: a run on the digits network, ready to be exported."""

from pathlib import Path
from typing import Any

import pytest

import haq
from haq.experiment.artifact import load_artifact
from haq.exporters.deployable import Deployable, make_deployable
from tests.conftest import SharedRun

FEW_IMAGES = {"search_images": 80, "report_images": 60, "calibration_images": 64}
"""64 images to search with, and 16 to select by."""


@pytest.fixture(scope="session")
def few_images() -> dict[str, int]:
    """Settings of the data of `digits_run`."""
    return FEW_IMAGES


@pytest.fixture(scope="session")
def digits_run(shared_run: SharedRun) -> Path:
    """A finished search on the digits network."""
    settings: dict[str, Any] = {**FEW_IMAGES, "episodes": 8, "agent": "random", "budget": 0.5}
    return shared_run("exported", lambda path: haq.search(out=path, **settings))


@pytest.fixture(scope="session")
def deployable(digits_run: Path) -> Deployable:
    """The digits network with the policy of `digits_run`."""
    return make_deployable(load_artifact(digits_run))
