"""Measure the policies per second of a whole search, and the share of time spent outside the network.

python scripts/benchmarks/search.py --model cifar_resnet20 --weights FILE --data cifar10:DIR > results/search.md
"""

import argparse
import shlex
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch

from haq.config import SearchConfig, search_config
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation
from haq.experiment.preparation import prepare
from haq.experiment.prior.fisher import network_fisher
from haq.runs.environment import describe_environment
from haq.runs.run_folder import RunFolder
from haq.searching.episodes import run_episodes
from haq.searching.search import begin_session


class Timed:
    """An evaluator's `evaluate` that sums up its seconds and processor seconds."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluate = evaluator.evaluate
        self.wall_s = self.processor_s = 0.0

    def __call__(self, *bits: Any) -> Evaluation:
        """Evaluate a policy and add its time."""
        wall, processor = perf_counter(), process_time()
        found = self._evaluate(*bits)
        self.wall_s += perf_counter() - wall
        self.processor_s += process_time() - processor
        return found


def measure(config: SearchConfig, folder: Path) -> list[tuple[str, float, float]]:
    """Return rows of part, seconds and processor seconds."""
    rows, marks = [], (perf_counter(), process_time())

    def row(name: str) -> None:
        nonlocal marks
        now = (perf_counter(), process_time())
        rows.append((name, now[0] - marks[0], now[1] - marks[1]))
        marks = now

    problem = prepare(config)
    row("trace, calibrate, export, compare engines")
    fisher = network_fisher(problem.network)
    row("prior")
    session = begin_session(problem, losses=fisher)
    row("float outputs of the search split")
    timed = Timed(session.evaluator)
    session.evaluator.evaluate = timed  # type: ignore[method-assign, assignment]
    session.enter(RunFolder.create(folder, config.model_dump(mode="json"), describe_environment(seed=0, device="cpu")))
    run_episodes(session)
    row("episodes")
    _, wall_s, processor_s = rows.pop()
    rows.append(("episodes: evaluating policies", timed.wall_s, timed.processor_s))
    rows.append(("episodes: all else", wall_s - timed.wall_s, processor_s - timed.processor_s))
    return rows


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits_cnn")
    parser.add_argument("--weights")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--episodes", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    settings = {"model": options.model, "weights": options.weights, "data": options.data, "episodes": options.episodes}
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(search_config(**settings), Path(folder) / "run")
    evaluating, rest = rows[-2], rows[-1]
    print(f"# Time of a search by part: {options.model}\n")
    print(f"{options.episodes} episodes, {options.threads} threads, no prior evaluations.\n")
    print("| | s | processor s |\n|---|---|---|")
    for name, wall_s, processor_s in rows:
        print(f"| {name} | {wall_s:.2f} | {processor_s:.2f} |")
    print(f"\n{options.episodes / (evaluating[1] + rest[1]):.2f} policies a second; ", end="")
    print(
        f"all but evaluating takes {100 * rest[2] / (evaluating[2] + rest[2]):.1f} % of the episodes' processor time."
    )
    versions = describe_environment(seed=0, device="cpu")["packages"]
    print(f"\nMade with `python {shlex.join(sys.argv)}`.", end=" ")
    print(f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items() if version)}.")


if __name__ == "__main__":
    main()
