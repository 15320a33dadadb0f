"""Measure the time from the start of a search to its first policy, without a cache and with one.

    PYTHONPATH=scripts/experiments python scripts/benchmarks/first_policy.py tf_mobilenets:mobilenet_v2 --data DIR

The data folder is that of `search_networks.py`. Every search runs in a process of its own and ends after its first
policy. Prints Markdown, or with `--json` the seconds of the phases.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import torch
from search_networks import CASES, Job, spoken
from torch import Tensor, nn

import haq
from haq.execution.progress import Silent
from haq.experiment.loading import load_configured, task_options
from haq.runs.environment import describe_environment
from haq.tasks import load_task

FLOAT_IMAGES = 2000
"""Number of images whose time in the eager float network is the unit of the tables."""
FLOAT_BATCHES = (1, 4, 16, 50)
ROUNDS = 4

Seconds = tuple[float, float]
"""Wall time and processor time."""


class FirstPolicyError(Exception):
    """The first policy is evaluated."""


class Phases(Silent):
    """Watcher that adds up the time of every phase and ends the search after its first policy."""

    def __init__(self) -> None:
        self.found: dict[str, Seconds] = {}
        self._name, self._began = "load", _now()

    def phase(self, name: str) -> None:
        """Begin a phase."""
        wall, processor = self.found.get(self._name, (0.0, 0.0))
        now = _now()
        self.found[self._name] = (wall + now[0] - self._began[0], processor + now[1] - self._began[1])
        self._name, self._began = name, now

    def begin(self, unit: str, total: int, *, done: int = 0) -> None:  # noqa: ARG002
        """Begin the episodes."""
        self.phase("first policy")

    def step(self, done: int, status: str = "") -> None:  # noqa: ARG002
        """End the search."""
        self.phase("end")
        raise FirstPolicyError


def _now() -> Seconds:
    return perf_counter(), process_time()


def searched(job: Job, budget: str) -> dict[str, Seconds]:
    """Return the seconds of every phase of a search up to its first policy."""
    torch.set_num_threads(1)
    phases, settings = Phases(), job.config(budget)
    given = {name: getattr(settings, name) for name in settings.model_fields_set if name != "data"}
    try:
        with tempfile.TemporaryDirectory() as folder:
            haq.search(task=settings.data, out=Path(folder) / "run", watcher=phases, **given)
    except FirstPolicyError:
        return phases.found
    raise AssertionError("the search ended before its first policy")


def float_seconds(job: Job, budget: str) -> list[float]:
    """Return the processor time of `FLOAT_IMAGES` images in the eager float network, in batches of every size."""
    torch.set_num_threads(1)
    config = job.config(budget)
    model = load_configured(config).eval()
    example = load_task(config.data, model=model, options=task_options(config)).example()
    found = []
    with torch.inference_mode():
        for size in FLOAT_BATCHES:
            images = example.repeat(size, *[1] * (example.ndim - 1))
            found.append(min(_processor_seconds(model, images) for _ in range(ROUNDS)) * FLOAT_IMAGES / size)
    return found


def _processor_seconds(model: nn.Module, images: Tensor) -> float:
    began = process_time()
    model(images)
    return process_time() - began


def in_process(name: str, cache: str, arguments: list[str]) -> Any:
    """Return what this script prints for a measurement in a process of its own."""
    command = [sys.executable, __file__, *arguments, "--json", name]
    environment = os.environ | {"HAQ_CACHE": cache, "OMP_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)


def write(job: Job, options: argparse.Namespace, arguments: list[str]) -> None:
    """Measure and print the table."""
    batch = job.config(options.budget).eval_batch
    with tempfile.TemporaryDirectory() as cache:
        units, cold, cached = (in_process(name, cache, arguments) for name in ("float", "search", "search"))
    print(f"# Time before the first policy: {options.model}\n")
    print(
        f"A search within the cost of {spoken(options.budget)} on {options.target}, one thread, up to the evaluation "
        "of its first policy, imports left out; in a new cache, and again with the cache that this left. The eager "
        f"float network takes {', '.join(f'{seconds:.0f}' for seconds in units)} s of the processor for "
        f"{FLOAT_IMAGES:,} images in batches of {', '.join(map(str, FLOAT_BATCHES))}; calibration has batches of "
        f"{batch}.\n"
    )
    print("| phase | s | processor s | cached, s | cached, processor s |\n|---|---|---|---|---|")
    rows = [(name, cold[name], cached.get(name, (0.0, 0.0))) for name in cold]
    total = tuple([sum(times[part] for times in found.values()) for part in range(2)] for found in (cold, cached))
    for name, *times in [*rows, ("all", *total)]:
        print(f"| {name} | " + " | ".join(f"{seconds:.1f}" for pair in times for seconds in pair) + " |")
    for size, unit in zip(FLOAT_BATCHES, units, strict=True):
        ratios = " | ".join(f"{seconds / unit:.2f}" for pair in total for seconds in pair)
        print(f"| all over {FLOAT_IMAGES:,} float images in batches of {size} | {ratios} |")
    packages = describe_environment(seed=0, device="cpu")["packages"]
    print(f"\nMade with `python {shlex.join(sys.argv)}`.", end=" ")
    print(f"Versions: {', '.join(f'{name} {version}' for name, version in packages.items() if version)}.")


def main() -> None:
    """Measure the time before the first policy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=list(CASES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=Path())
    parser.add_argument("--target", default="bismo-edge")
    parser.add_argument("--budget", default="4bits")
    parser.add_argument("--json", choices=("float", "search"), help="print the seconds of one measurement as JSON")
    options = parser.parse_args()
    job = Job(options.model, options.target, options.data, options.weights, Path(), 1, 0)
    if options.json is None:
        write(job, options, sys.argv[1:])
    else:
        print(json.dumps((float_seconds if options.json == "float" else searched)(job, options.budget)))


if __name__ == "__main__":
    main()
