"""Flags that choose where evaluations and searches run."""

import pytest

from haq.cli.clusters import workers_of
from haq.errors import UserError
from haq.execution.processes import Processes
from haq.execution.ray_cluster import RayCluster
from haq.execution.slurm_cluster import SlurmCluster


def test_one_process_without_a_cluster_is_the_calling_one() -> None:
    assert workers_of(1, None, task_cpus=1, task_gpus=0) is None
    assert workers_of(3, None, task_cpus=1, task_gpus=0) == Processes(3)


def test_a_ray_cluster_has_an_address_or_is_started() -> None:
    assert workers_of(1, "ray", task_cpus=2, task_gpus=0.5) == RayCluster(None, 2, 0.5)
    assert workers_of(1, "ray:10.0.0.1:6379", task_cpus=1, task_gpus=0) == RayCluster("10.0.0.1:6379", 1, 0)


def test_options_of_slurm_are_those_of_sbatch() -> None:
    found = workers_of(5, "slurm:partition=gpu,time=60", task_cpus=4, task_gpus=1)
    assert isinstance(found, SlurmCluster)
    assert (found.workers, found.cpus, found.gpus) == (5, 4, 1)
    assert found.options == {"partition": "gpu", "time": "60"}


@pytest.mark.parametrize(
    ("cluster", "workers", "cpus", "gpus", "message"),
    [
        (None, 2, 4, 0, "--task-cpus and --task-gpus are for --cluster"),
        ("dask", 1, 1, 0, "--cluster 'dask': write ray, "),
        ("ray", 2, 1, 0, "leave --workers out"),
        ("slurm:gpu", 1, 1, 0, "write options of sbatch, such as slurm:partition=gpu"),
        ("slurm", 1, 1, 0.5, "Slurm gives whole GPUs"),
    ],
)
def test_wrong_flags_are_a_line(cluster: str | None, workers: int, cpus: int, gpus: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        workers_of(workers, cluster, task_cpus=cpus, task_gpus=gpus)


def test_torchrun_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(UserError, match="torchrun starts several processes of haq finetune only"):
        workers_of(1, None, task_cpus=1, task_gpus=0)
