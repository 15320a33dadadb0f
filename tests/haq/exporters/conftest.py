"""What the tests of exporters share: a run on the digits network, ready to be exported."""

from pathlib import Path

import pytest

import haq
from haq.experiment.artifact import load_artifact
from haq.exporters.deployable import Deployable, make_deployable
from tests.conftest import SharedRun


@pytest.fixture(scope="session")
def digits_run(shared_run: SharedRun) -> Path:
    """A finished search on the digits network."""
    return shared_run("exported", lambda path: haq.search(out=path, episodes=8, agent="random", budget=0.5))


@pytest.fixture(scope="session")
def deployable(digits_run: Path) -> Deployable:
    """The digits network with the policy of `digits_run`."""
    return make_deployable(load_artifact(digits_run))
