"""Run a comparison in one process, on a Ray cluster of two nodes on this machine, and with a node killed in the middle.

The points of all searches, without their durations, must be identical. Prints Markdown.

    python scripts/experiments/two_nodes.py --runs runs/two_nodes
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

from haq.config import search_config
from haq.execution.executors import Executor
from haq.execution.processes import Processes
from haq.execution.ray_cluster import RayCluster
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


def killing(cluster: Any, node: Any, folder: Path) -> Callable[[], None]:
    """Return a function that kills a node once the first search has episodes, and adds another one."""

    def kill() -> None:
        while not any(path.stat().st_size for path in folder.glob("runs/*/episodes.jsonl")):
            time.sleep(0.2)
        cluster.remove_node(node, allow_graceful=False)
        cluster.add_node(num_cpus=1)

    return kill


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/two_nodes"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--episodes", type=int, default=20)
    options = parser.parse_args()
    import ray
    from ray.cluster_utils import Cluster

    made = comparison(seeds=options.seeds, episodes=options.episodes)
    seconds = {"one process": timed(made, options.runs / "processes", Processes(1))}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        seconds["two nodes"] = timed(made, options.runs / "ray", RayCluster())
        killer = Thread(target=killing(cluster, node, options.runs / "killed"), daemon=True)
        killer.start()
        seconds["two nodes, one killed"] = timed(made, options.runs / "killed", RayCluster())
    finally:
        ray.shutdown()
        cluster.shutdown()  # type: ignore[no-untyped-call]
    expected = points(options.runs / "processes")
    print("| where | elapsed | speed-up | points as in one process |")
    print("|---|---|---|---|")
    for name, folder in zip(seconds, ("processes", "ray", "killed"), strict=True):
        same = sum(a == b for a, b in zip(points(options.runs / folder), expected, strict=True))
        ratio = seconds["one process"] / seconds[name]
        print(f"| {name} | {seconds[name]:.0f} s | {ratio:.2f} | {same} of {len(expected)} |")


if __name__ == "__main__":
    main()
