"""Measure time and memory of a search without its evaluations, against layers, episodes, devices and journal length.

    python scripts/benchmarks/growth.py --out results/growth/after --before results/growth/before
    python scripts/benchmarks/growth.py --errors results/growth/errors-after.json

Policies are evaluated by a formula instead of a network. Each cell runs in a process of its own and stops at `--limit`
processor seconds; what it reached then is written. Cells whose file exists are not run again. Cells of `--told` tell a
method the scores of random policies and then run ten episodes: they measure a method that knows many policies without a
long search. `--errors` writes the logarithm of the least error that `ddpg` found after 10, 30 and 60 episodes, for
eight seeds. Another version of the packages is measured with its folder as PYTHONPATH.
"""

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from growth_figures import draw, read_cells, tables
from growth_files import measure_devices, measure_journal
from growth_search import EPISODES, SEED, least_errors, measure, measure_told

from agents.registry import METHODS
from haq.files import write_atomically
from haq.runs.environment import describe_environment

LAYERS = (20, 50, 100, 300, 1000)
EPISODE_LAYERS = 10
JOURNALS = (1_000, 10_000, 100_000)
STEPWISE = ("ddpg-paper", "random")
"""Agents that act step by step, whose replay buffer has a fixed size: nothing can be told to them."""
ERROR_LAYERS = (20, 60)
ERROR_SEEDS = 8

Cell = Callable[[], object]


def cells(options: argparse.Namespace) -> Iterator[tuple[str, Cell]]:
    """Yield the name of the file and the measurement of each cell."""
    limit_s = options.limit
    for layers in options.layers:
        for episodes in options.layer_episodes:
            yield f"ddpg-{layers}-{episodes}", partial(measure, "ddpg", layers, episodes, limit_s=limit_s)
    for agent in options.agents:
        name = f"{agent}-{EPISODE_LAYERS}-{options.episodes}"
        yield name, partial(measure, agent, EPISODE_LAYERS, options.episodes, limit_s=limit_s)
    for agent in options.told:
        told = partial(measure_told, agent, EPISODE_LAYERS, max(EPISODES), limit_s=limit_s)
        yield f"told-{agent}-{EPISODE_LAYERS}", told
    for lines in options.journals:
        yield f"journal-{EPISODE_LAYERS}-{lines}", partial(measure_journal, EPISODE_LAYERS, lines)
    if options.devices:
        yield f"devices-{max(LAYERS[:-1])}", partial(measure_devices, max(LAYERS[:-1]))


def run_apart(cell: Cell) -> object:
    """Run a measurement in a copy of this process, so that it has a peak of memory of its own."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, cell))
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    return found


def _send(sender: Connection, cell: Cell) -> None:
    sender.send(cell())


def main() -> None:
    """Measure the cells that are missing, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="folder of the results, one JSON file for each cell")
    parser.add_argument("--errors", type=Path, help="file of the least errors")
    parser.add_argument("--before", type=Path, help="folder of earlier results, drawn beside these")
    parser.add_argument("--layers", type=int, nargs="*", default=LAYERS)
    parser.add_argument("--layer-episodes", type=int, nargs="*", default=[min(EPISODES)], help="episodes of `--layers`")
    parser.add_argument("--agents", nargs="*", default=sorted(METHODS))
    parser.add_argument("--episodes", type=int, default=max(EPISODES), help="episodes of `--agents`")
    parser.add_argument("--told", nargs="*", default=sorted(METHODS.keys() - set(STEPWISE)))
    parser.add_argument("--journals", type=int, nargs="*", default=JOURNALS, help="lines of journals")
    parser.add_argument("--devices", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--limit", type=float, default=120.0, help="processor seconds after which a cell stops")
    options = parser.parse_args()
    if options.errors:
        errors = {layers: [least_errors(layers, seed) for seed in range(ERROR_SEEDS)] for layers in ERROR_LAYERS}
        write_atomically(options.errors, json.dumps({**errors, "environment": _environment()}, indent=1).encode())
    if not options.out:
        return
    options.out.mkdir(parents=True, exist_ok=True)
    for name, cell in cells(options):
        path = options.out / f"{name}.json"
        if path.exists():
            continue
        document = {"result": run_apart(cell), "environment": _environment()}
        write_atomically(path, json.dumps(document, indent=1).encode())
        print(name, flush=True)
    found, before = read_cells(options.out), read_cells(options.before) if options.before else {}
    print(tables(found, before))
    draw(found, before, options.out.with_suffix(".png"))


def _environment() -> dict[str, Any]:
    environment = describe_environment(seed=SEED, device="cpu")
    return {name: environment[name] for name in ("seed", "processor", "threads", "commit", "packages")}


if __name__ == "__main__":
    main()
