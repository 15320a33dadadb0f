"""Run a comparison in one process, on a Ray cluster of two nodes on this machine, and with one of them killed.

Every run has a cache of its own, without evaluations, and workers of its own. The points of all searches, without their
durations, must be identical. Prints Markdown.

    python scripts/experiments/two_nodes.py --runs runs/two_nodes
"""

import argparse
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from haq.config import search_config
from haq.execution.executors import Executor
from haq.execution.processes import Processes
from haq.execution.ray_cluster import RayCluster
from haq.runs.cache import cache_dir
from haq.studies.comparison.compare import compare
from haq.studies.comparison.plan import Comparison


def comparison(*, seeds: int, episodes: int) -> Comparison:
    config = search_config(search_images=60, report_images=60, calibration_images=64)
    return Comparison(
        config=config, agents=("evolution", "random"), budgets=("0.4",), seeds=seeds, checkpoints=(episodes,)
    )


def points(folder: Path) -> list[dict[str, Any]]:
    """Return the points of a comparison without what depends on the speed of the machine."""
    document = json.loads((folder / "comparison.json").read_text())
    return [{key: value for key, value in each.items() if "seconds" not in key} for each in document["records"]]


def timed(made: Comparison, out: Path, executor: Executor) -> float:
    began = time.monotonic()
    compare(made, out, executor=executor)
    return time.monotonic() - began


@contextmanager
def own_cache(folder: Path) -> Iterator[None]:
    """Use a copy of the cache without evaluations."""
    before = cache_dir()
    shutil.copytree(before, folder, ignore=shutil.ignore_patterns("evaluations", "runs", "slurm"), dirs_exist_ok=True)
    os.environ["HAQ_CACHE"] = str(folder.absolute())
    try:
        yield
    finally:
        os.environ["HAQ_CACHE"] = str(before)


def killing(cluster: Any, node: Any, folder: Path) -> Callable[[], None]:
    """Return a function that kills a node once a search has episodes; both nodes are busy then."""

    def kill() -> None:
        while not any(path.stat().st_size for path in folder.glob("runs/*/episodes.jsonl")):
            time.sleep(0.1)
        cluster.remove_node(node, allow_graceful=False)

    return kill


def on_two_nodes(made: Comparison, out: Path, *, is_killed: bool) -> float:
    """Run a comparison on two nodes of one CPU each, and kill the second one if asked to."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    if is_killed:
        Thread(target=killing(cluster, node, out), daemon=True).start()
    try:
        return timed(made, out, RayCluster())
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/two_nodes"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=20)
    options = parser.parse_args()
    made = comparison(seeds=options.seeds, episodes=options.episodes)
    runs: dict[str, Callable[[Path], float]] = {
        "one process": lambda out: timed(made, out, Processes(1)),
        "two nodes": lambda out: on_two_nodes(made, out, is_killed=False),
        "two nodes, one killed": lambda out: on_two_nodes(made, out, is_killed=True),
    }
    print("| where | elapsed | speed-up | points as in one process |")
    print("|---|---|---|---|")
    seconds, found = [], []
    for number, (name, run) in enumerate(runs.items()):
        out = options.runs / str(number)
        with own_cache(options.runs / f"cache{number}"):
            seconds.append(run(out))
        found.append(points(out))
        same = sum(a == b for a, b in zip(found[-1], found[0], strict=True))
        ratio = seconds[0] / seconds[-1]
        print(f"| {name} | {seconds[-1]:.0f} s | {ratio:.2f} | {same} of {len(found[0])} |", flush=True)


if __name__ == "__main__":
    main()
