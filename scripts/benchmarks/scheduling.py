"""Measure what the scheduling of evaluations costs: calls that do nothing, and calls that only wait, by workers.

Waiting calls stand in for evaluations of that duration, so that the number of workers may exceed that of processor
cores. Starting the workers is not part of the time, and stated apart. Prints Markdown.

    python scripts/benchmarks/scheduling.py --kind processes --workers 1 2 4 --seconds 0 0.1 1
"""

import argparse
import logging
import time
from collections.abc import Iterator
from typing import NamedTuple

from haq.execution.pools import Pool, Workers
from haq.execution.processes import Processes
from haq.execution.ray_cluster import RayCluster


class Row(NamedTuple):
    """One line of the table."""

    workers: int
    start_s: float
    task_s: float
    tasks: int
    elapsed_s: float

    @property
    def overhead_s(self) -> float:
        """Time per task beyond the time that its wait takes on so many workers."""
        return (self.elapsed_s - self.tasks * self.task_s / self.workers) / self.tasks

    @property
    def efficiency(self) -> float:
        """Share of the workers' time that waits take."""
        return self.tasks * self.task_s / self.workers / self.elapsed_s


def wait_for(seconds: float) -> None:
    """Stand in for an evaluation."""
    if seconds:
        time.sleep(seconds)


def tasks_for(seconds: float, workers: int, *, most: int) -> int:
    """Return a number of tasks that take a few seconds, a multiple of the workers."""
    return max(workers, min(most, int(4 / seconds) * workers if seconds else most) // workers * workers)


def elapsed(pool: Pool, seconds: float, tasks: int) -> float:
    """Return the time of tasks that are all submitted at once, as the policies of a round are."""
    began = time.monotonic()
    for future in [pool.submit(wait_for, seconds) for _ in range(tasks)]:
        future.result()
    return time.monotonic() - began


def rows(workers: Workers, count: int, durations: list[float], *, most: int) -> Iterator[Row]:
    """Measure all durations on the same workers."""
    began = time.monotonic()
    with workers.pool() as pool:
        elapsed(pool, 0.5, 2 * count)  # every worker is there
        start = time.monotonic() - began
        for seconds in durations:
            tasks = tasks_for(seconds, count, most=most)
            yield Row(count, start, seconds, tasks, elapsed(pool, seconds, tasks))


def ray_of(cpus: int) -> Workers:
    """Start a Ray cluster of so many logical CPUs on this machine, in place of the one before."""
    import ray

    ray.shutdown()
    ray.init(address="local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    return RayCluster()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("processes", "ray"), default="processes")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.0, 0.1, 1.0])
    parser.add_argument("--tasks", type=int, default=400, help="most tasks of one measurement")
    options = parser.parse_args()
    print("| workers | time of a task | tasks | elapsed | overhead of a task | efficiency | start of the workers |")
    print("|---|---|---|---|---|---|---|")
    for count in options.workers:
        workers = Processes(count) if options.kind == "processes" else ray_of(count)
        for row in rows(workers, count, options.seconds, most=options.tasks):
            share = f"{100 * row.efficiency:.1f} %" if row.task_s else ""
            print(
                f"| {count} | {row.task_s:g} s | {row.tasks} | {row.elapsed_s:.2f} s | "
                f"{1000 * row.overhead_s:.2f} ms | {share} | {row.start_s:.1f} s |",
                flush=True,
            )


if __name__ == "__main__":
    main()
