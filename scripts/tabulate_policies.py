"""Evaluate thousands of policies of one network once, so that search methods can be compared on a table.

    python scripts/tabulate_policies.py digits --workers 2
    python scripts/tabulate_policies.py resnet20 --model cifar_resnet20 --weights FILE --data cifar10:DIR

A quarter of the policies are random, the rest are random ones brought to budgets that searches have; uniform bits come
first. Every evaluation goes into the store of evaluations at once: what is interrupted goes on when it is called again.
The table is results/tables/NAME.npz: `bits` int8 [policy, layer, 2], `accuracy` and `divergence` float32 [policy], on
the search split, and `about`, a JSON text. `numpy.load` reads it.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, process_time
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from envs.budget import project, snap
from envs.choices import Choices
from haq.cache import write_atomically
from haq.config import SearchConfig, search_config
from haq.environment import describe_environment
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.store import EvaluationStore
from haq.problem import prepare, prepare_network

BUDGETS = [
    {"hardware": hardware, "objective": objective, "budget": (f"{bits}bits",)}
    for hardware, objective in (("bismo-edge", "latency"), ("bismo-cloud", "latency"), ("bismo-edge", "size"))
    for bits in (3, 4, 5)
]
"""What policies are brought to, in turn."""
FREE_SHARE = 0.25
"""Of the policies, those that no budget changes."""
POLICIES_A_TASK = 16

Bits = NDArray[np.int64]
"""[layer, 2]"""


class Row(NamedTuple):
    """What became of one policy."""

    accuracy: float
    divergence: float


class Chunk(NamedTuple):
    """What became of a few policies, and what that took."""

    rows: list[Row]
    cpu_s: float
    run: int
    """Policies that were not in the store."""


_evaluator: Evaluator | None = None
"""This process's own; made once, as it calibrates and runs the float network."""


def enter(config: SearchConfig) -> None:
    """Get a process ready: one thread, one evaluator."""
    global _evaluator  # noqa: PLW0603
    torch.set_num_threads(1)
    network = prepare_network(config)
    _evaluator = Evaluator(
        network.engine, network.task, "search", batch_size=config.eval_batch, store=EvaluationStore()
    )
    # Calibrates, and makes the quantizers, before a policy's time counts.
    _evaluator.kept(len(network.priced.trace.layers))


def evaluate(policies: Sequence[Bits]) -> Chunk:
    """Evaluate a few policies in a process that is ready."""
    assert _evaluator is not None, "enter comes first"
    began, before = process_time(), _evaluator.evaluations_run
    found = [_evaluator.evaluate(bits[:, 0].tolist(), bits[:, 1].tolist()) for bits in policies]
    rows = [Row(each.accuracy, each.divergence) for each in found]
    return Chunk(rows, process_time() - began, _evaluator.evaluations_run - before)


def draw_policies(config: SearchConfig, count: int) -> list[Bits]:
    """So many different policies: uniform bits, then random ones, most of them brought to budgets in turn."""
    network = prepare_network(config)
    problems = [
        prepare(search_config(**config.model_dump(exclude_unset=True) | each), network=network) for each in BUDGETS
    ]
    choices = [problem.choice for problem in problems]
    found: dict[bytes, Bits] = {}
    for decisions in _stream(choices, np.random.default_rng(config.seed)):
        bits = choices[0].expand(decisions)
        found.setdefault(bits.tobytes(), bits)
        if len(found) == count:
            break
    return list(found.values())


def _stream(choices: Sequence[Choices], generator: np.random.Generator) -> Iterator[Bits]:
    """Bits [decision, 2] without end."""
    count = len(choices[0].names)
    for pair in product(range(2, 9), repeat=2):
        yield snap(choices[0], np.tile(np.array(pair), (count, 1)))
    number = 0
    while True:
        # Widths from a range of their own, as those of all ranges would add up to five bits in every policy.
        least, most = np.sort(generator.integers(2, 9, 2))
        bits = generator.integers(least, most + 1, (count, 2))
        if generator.random() < FREE_SHARE:
            yield snap(choices[0], bits)
        else:
            yield project(choices[number % len(choices)], bits)
            number += 1


def tabulate(config: SearchConfig, policies: Sequence[Bits], *, workers: int) -> list[Row]:
    """Evaluate policies in parallel; the rows are in their order."""
    rows: list[Row] = []
    cpu_s, run, began = 0.0, 0, monotonic()
    context = get_context("spawn")
    tasks = [policies[first : first + POLICIES_A_TASK] for first in range(0, len(policies), POLICIES_A_TASK)]
    with ProcessPoolExecutor(workers, mp_context=context, initializer=enter, initargs=(config,)) as pool:
        for chunk in pool.map(evaluate, tasks):
            rows += chunk.rows
            cpu_s, run = cpu_s + chunk.cpu_s, run + chunk.run
            if len(rows) % (20 * POLICIES_A_TASK) == 0 or len(rows) == len(policies):
                each = f"{cpu_s / run:.3f} CPU-s each" if run else "all known"
                print(f"{len(rows)} of {len(policies)}, {run} run, {each}, {monotonic() - began:.0f} s", flush=True)
    return rows


def write_table(path: Path, policies: Sequence[Bits], rows: Sequence[Row], about: dict[str, object]) -> None:
    """The table as one file; the same table is the same bytes."""
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        bits=np.array(policies, dtype=np.int8),
        accuracy=np.array([row.accuracy for row in rows], dtype=np.float32),
        divergence=np.array([row.divergence for row in rows], dtype=np.float32),
        about=np.array(json.dumps(about)),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, buffer.getvalue())


def _without_folder(value: str | int) -> str | int:
    """Where files lie on this machine is of no use elsewhere.

    >>> _without_folder("/data/resnet.pth"), _without_folder("cifar10:/data/cifar")
    ('resnet.pth', 'cifar10')
    """
    return Path(value.partition(":/")[0]).name if isinstance(value, str) else value


def main() -> None:
    """Draw, evaluate and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the table")
    parser.add_argument("--policies", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("results/tables"), help="folder of the table")
    settings = ("model", "weights", "data", "search_from", "engine")
    numbers = ("search_images", "seed")
    for name in settings:
        parser.add_argument(f"--{name.replace('_', '-')}")
    for name in numbers:
        parser.add_argument(f"--{name.replace('_', '-')}", type=int)
    arguments = parser.parse_args()
    given = {name: getattr(arguments, name) for name in (*settings, *numbers) if getattr(arguments, name) is not None}
    config = search_config(**given)
    policies = draw_policies(config, arguments.policies)
    rows = tabulate(config, policies, workers=arguments.workers)
    environment = describe_environment(seed=config.seed, device=config.device)
    about = {
        "command": f"python scripts/tabulate_policies.py {arguments.name} --policies {len(policies)}",
        "settings": {name: _without_folder(value) for name, value in given.items()},
        "split": "search",
        "environment": {key: environment[key] for key in ("seed", "python", "processor", "packages")},
    }
    write_table(arguments.out / f"{arguments.name}.npz", policies, rows, about)


if __name__ == "__main__":
    main()
