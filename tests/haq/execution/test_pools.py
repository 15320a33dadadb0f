"""Contract of pools: results, errors, shared values, and workers that die."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from haq.errors import UserError
from haq.execution import processes
from haq.execution.pools import Pool, Workers
from haq.execution.processes import Processes
from haq.execution.ray_cluster import RayCluster
from haq.execution.slurm_cluster import SlurmCluster
from tests.haq.execution.stub_calls import describe, die_once, double, refuse

POOLS = ("processes", "ray")


def workers_named(name: str, request: pytest.FixtureRequest) -> Workers:
    if name == "processes":
        return Processes(2)
    request.getfixturevalue("ray_cluster")
    return RayCluster()


@pytest.fixture(scope="module", params=POOLS)
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    with workers_named(request.param, request).pool() as pool:
        yield pool


def test_calls_return_their_results(pool: Pool) -> None:
    assert [future.result() for future in [pool.submit(double, number) for number in range(5)]] == [0, 2, 4, 6, 8]
    assert pool.slots == 2


def test_workers_read_shared_values_with_one_thread(pool: Pool) -> None:
    weights = pool.share(torch.ones(10))
    found = [pool.submit(describe, weights, number).result() for number in (1, 2)]
    assert [each[:2] for each in found] == [(10.0, 1), (20.0, 1)]
    assert os.getpid() not in {pid for *_, pid in found}


def test_errors_are_raised_as_they_are(pool: Pool) -> None:
    with pytest.raises(UserError, match=r"^a budget of 0$"):
        pool.submit(refuse).result()


def test_a_call_whose_worker_dies_is_repeated_and_others_end(pool: Pool, tmp_path: Path) -> None:
    futures = [pool.submit(die_once, tmp_path / "mark"), *(pool.submit(double, number) for number in range(3))]
    assert [future.result() for future in futures] == ["done", 0, 2, 4]


def test_a_call_that_always_ends_its_worker_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "RETRIES", 0)
    with Processes(1).pool() as pool, pytest.raises(UserError, match="of a call died every time, 1 in all"):
        pool.submit(os._exit, 1).result()


def test_slurm_jobs_return_results_and_errors(tmp_path: Path) -> None:
    """Submitted to submitit's executor for one machine."""
    pytest.importorskip("submitit", reason="submitit is not installed")
    cluster = SlurmCluster(folder=tmp_path / "jobs", workers=2, options={"local": ""})
    with cluster.pool() as pool:
        weights = pool.share(torch.ones(10))
        found, failed = pool.submit(describe, weights, 3), pool.submit(refuse)
        assert found.result()[:2] == (30.0, 1)
        with pytest.raises(UserError, match=r"^a budget of 0$"):
            failed.result()
    assert not list((tmp_path / "jobs").glob("*/shared*"))


def test_a_cluster_that_cannot_be_reached_is_a_line() -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    with pytest.raises(UserError, match="--cluster slurm: "), SlurmCluster(folder=Path(), workers=1, options={}).pool():
        pass
