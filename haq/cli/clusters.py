"""Flags that choose where evaluations and searches run."""

import os
from typing import Annotated

import typer

from haq.errors import UserError
from haq.execution.pools import Workers
from haq.execution.processes import Processes
from haq.execution.ray_cluster import RayCluster
from haq.execution.slurm_cluster import LOCAL, SlurmCluster
from haq.runs.cache import cache_dir

WorkersFlag = Annotated[
    int, typer.Option(help="Number of processes, or of Slurm jobs at a time; no effect on results.", min=1, metavar="N")
]
ClusterFlag = Annotated[
    str | None,
    typer.Option(
        help="Cluster: ray (started on this machine), ray:ADDRESS, slurm or slurm:partition=NAME,time=MINUTES.",
        metavar="CLUSTER",
    ),
]
TaskCpusFlag = Annotated[int, typer.Option(help="CPUs, and threads, of a task on a cluster.", min=1, metavar="N")]
TaskGpusFlag = Annotated[float, typer.Option(help="GPUs of a task on a cluster.", min=0, metavar="N")]


def workers_of(workers: int, cluster: str | None, *, task_cpus: int, task_gpus: float) -> Workers | None:
    """Return the workers that flags describe.

    Args:
        workers: Number of processes or of Slurm jobs.
        cluster: Value of `--cluster`.
        task_cpus: CPUs of a task.
        task_gpus: GPUs of a task.

    Returns:
        The workers; None for a single process without a cluster, which is the calling one.

    Raises:
        UserError: A flag has a wrong value, or belongs to another kind of workers; or torchrun started this process.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError("torchrun starts several processes of haq finetune only; use --workers or --cluster here")
    if cluster is None:
        if task_cpus != 1 or task_gpus:
            raise UserError("--task-cpus and --task-gpus are for --cluster; processes have one thread each")
        return Processes(workers) if workers > 1 else None
    kind, _, rest = cluster.partition(":")
    if kind == "ray":
        if workers != 1:
            raise UserError("a Ray cluster runs as many tasks as it has --task-cpus for; leave --workers out")
        return RayCluster(rest or None, task_cpus, task_gpus)
    if kind == "slurm":
        if task_gpus != int(task_gpus):
            raise UserError(f"--task-gpus {task_gpus}: Slurm gives whole GPUs")
        return SlurmCluster(
            folder=cache_dir() / "slurm",
            workers=workers,
            cpus=task_cpus,
            gpus=int(task_gpus),
            options=_slurm_options(rest),
        )
    raise UserError(f"--cluster {cluster!r}: write ray, ray:ADDRESS, slurm or slurm:partition=NAME,time=MINUTES")


def _slurm_options(text: str) -> dict[str, str]:
    if text == LOCAL:
        return {LOCAL: ""}
    pairs = [part.partition("=") for part in text.split(",") if part]
    if not all(name.isidentifier() and value for name, _, value in pairs):
        raise UserError(f"--cluster slurm:{text}: write options of sbatch, such as slurm:partition=gpu,time=60")
    return {name: value for name, _, value in pairs}
