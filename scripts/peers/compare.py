"""Compare weight bits chosen by other tools with haq's, through the quantizers of all of them.

All get the same trained network and budget: an average number of bits over all weights, with 8-bit activations; first
and last layer are chosen like the others. The other tools get the calibration images; haq also evaluates whole
policies on the search split, without its labels. Accuracies are of the report split. The other tools are no
dependencies of haq and need an environment of their own:

    pip install model-compression-toolkit nvidia-modelopt requests huggingface_hub .
    OMP_NUM_THREADS=1 python scripts/peers/compare.py digits_cnn
    OMP_NUM_THREADS=1 python scripts/peers/compare.py cifar_resnet20 --weights FILE --data cifar10:DIR \\
        --search-from train --search-images 1000 --budgets 3 2.5 --evaluations 100 --seeds 1

Several weight files are several trainings. Writes every result to OUT/NETWORK.json, where a later call continues, and
a table of means over trainings and seeds to OUT/NETWORK.md.
"""

import argparse
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from answers import Row, read_rows, same_answer, write_rows, write_table
from tools import ACTIVATION_BITS, PEERS, WIDTHS, Inputs
from torch import nn

from haq.config import SearchConfig, search_config
from haq.evaluation.evaluator import Evaluator
from haq.experiment.preparation import prepare, prepare_network
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.problem import Network
from haq.runs.environment import describe_environment
from haq.runs.run_folder import RunFolder
from haq.searching.episodes import run_episodes
from haq.searching.search import begin_session

BATCH = 32
SEARCHES = ("corrections", "no corrections")
"""Variants of haq's evaluations in the search."""
PACKAGES = ("model-compression-toolkit", "nvidia-modelopt", "PuLP", "haq", "torch", "numpy")


@dataclass(frozen=True, slots=True, eq=False)
class Ours:
    """A network prepared by haq, with or without corrections, and the CPU-seconds of the preparation."""

    config: SearchConfig
    network: Network
    fisher: LayerLosses
    report: Evaluator
    cpu_s: float


def ours(config: SearchConfig) -> Ours:
    """Prepare a network; the float pass over the report split is not timed."""
    began = cpu_seconds()
    network = prepare_network(config)
    fisher = network_fisher(network)
    cpu_s = cpu_seconds() - began
    return Ours(config, network, fisher, Evaluator(network.engine, network.task, "report"), cpu_s)


@dataclass(eq=False)
class Bench:
    """One trained network, evaluated under every quantizer."""

    options: argparse.Namespace
    weights: str | None

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Return the settings of every configuration."""
        names = ("model", "data", "report_images", "search_images", "search_from")
        return {name: getattr(self.options, name) for name in names} | {"weights": self.weights}

    @cached_property
    def plain(self) -> Ours:
        """Return the network without corrections."""
        return ours(search_config(**self.settings, corrections="none"))

    @cached_property
    def corrected(self) -> Ours:
        """Return the network with corrections."""
        return ours(search_config(**self.settings, corrections="auto"))

    @cached_property
    def weight_counts(self) -> list[int]:
        """Return the number of weights of every layer; shared weights count once."""
        return [layer.weight_count for layer in self.plain.network.priced.layers]

    def inputs(self) -> Inputs:
        """Return a copy of the network and the calibration batches for a tool."""
        network = self.plain.network
        batches = list(network.task.batches("calibration", batch_size=BATCH))
        return Inputs(deepcopy(network.priced.model).eval(), batches)

    def peer(self, row: Row) -> Row:
        """Let a tool choose bits, quantize, and evaluate."""
        inputs, began = self.inputs(), cpu_seconds()
        assert row.budget is not None
        chosen = PEERS[row.chosen_by].choose(inputs, row.budget, WIDTHS if row.variant == "2 to 8" else (2, 4, 8))
        cpu_s = cpu_seconds() - began
        w_bits = [chosen.bits[layer.tied_to or layer.name] for layer in self.plain.network.priced.layers]
        return self.evaluated(row, w_bits, cpu_s=cpu_s, measured={row.chosen_by: self.accuracy(chosen.model)})

    def uniform(self, row: Row) -> Row:
        """Evaluate uniform bits."""
        return self.evaluated(row, [int(row.variant)] * len(self.weight_counts), quantizers=self.options.peers)

    def search(self, row: Row) -> Iterator[Row]:
        """Search with haq, and yield a row for each number of evaluations."""
        mine = self.plain if row.variant == "no corrections" else self.corrected
        assert row.budget is not None
        config = search_config(
            **mine.config.model_dump(exclude_unset=True, exclude={"first_last_bits"}),
            objective="size",
            budget=(f"{row.budget / 8}",),
            first_last_bits=None,
            episodes=max(self.options.evaluations),
            seed=row.seed,
        )
        began = cpu_seconds()
        session = begin_session(prepare(config, network=mine.network), losses=mine.fisher)
        with TemporaryDirectory() as folder:
            session.enter(RunFolder.create(Path(folder) / "run", config.model_dump(mode="json"), {}))
            run_episodes(session)
            cpu_s = cpu_seconds() - began
            winners = [session.select(count).winner for count in self.options.evaluations]
        for count, winner in zip(self.options.evaluations, winners, strict=True):
            spent = mine.cpu_s + cpu_s * count / session.episode_count
            quantizers = self.options.peers if row.seed == 0 and count == session.episode_count else ()
            measured = {"search": winner.accuracy}
            again = Row(**{**asdict(row), "evaluations": count})
            yield self.evaluated(again, winner.w_bits, cpu_s=spent, measured=measured, quantizers=quantizers)

    def evaluated(
        self,
        row: Row,
        w_bits: Sequence[int],
        *,
        cpu_s: float | None = None,
        measured: Mapping[str, float] | None = None,
        quantizers: Sequence[str] = (),
    ) -> Row:
        """Return the row with the accuracy of its bits under haq's quantizer and the given others."""
        layers = self.plain.network.priced.layers
        a_bits = [ACTIVATION_BITS] * len(layers)
        evaluations = {
            name: mine.report.evaluate(w_bits, a_bits)
            for name, mine in (("haq", self.plain), ("haq corrected", self.corrected))
        }
        found = {name: each.accuracy for name, each in evaluations.items()}
        bits = {layer.tied_to or layer.name: width for layer, width in zip(layers, w_bits, strict=True)}
        others = {name: self.accuracy(PEERS[name].quantize(self.inputs(), bits)) for name in quantizers}
        average = sum(count * width for count, width in zip(self.weight_counts, w_bits, strict=True))
        facts = {
            "w_bits": tuple(w_bits),
            "average_bits": average / sum(self.weight_counts),
            "accuracy": {**(measured or {}), **found, "float": self.plain.report.accuracy_fp32, **others},
            "divergence": {name: each.divergence for name, each in evaluations.items()},
            "cpu_s": None if cpu_s is None else round(cpu_s, 1),
        }
        return Row(**{**asdict(row), **facts})

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        """Return the accuracy of a tool's network on the report split."""
        task = self.plain.network.task
        metric = task.meter()
        for inputs, targets in task.batches("report", batch_size=256):
            metric.update(model.eval()(inputs), targets)
        return metric.compute()

    def about(self) -> dict[str, Any]:
        """Return the description of network, data and machine for the table."""
        task = self.plain.network.task
        return {
            "network": self.options.model,
            "layers": [layer.name for layer in self.plain.network.priced.layers],
            "weights": sum(self.weight_counts),
            "images": {name: task.size(name) for name in ("calibration", "search", "selection", "report")},
            "versions": {name: version(name) for name in PACKAGES},
            "processor": describe_environment(seed=0, device="cpu")["processor"],
            "threads": torch.get_num_threads(),
        }


@dataclass
class Rows:
    """All results so far, stored in a file."""

    path: Path
    commands: list[str]
    rows: list[Row]

    def has(self, row: Row) -> bool:
        """Return whether there is an answer to the same question."""
        return any(same_answer(row, each) for each in self.rows)

    def add(self, bench: Bench, row: Row) -> None:
        """Add a row or replace an earlier one, and write file and table."""
        self.rows = [each for each in self.rows if not same_answer(row, each)] + [row]
        about = {**bench.about(), "commands": list(dict.fromkeys([*self.commands, command()]))}
        write_rows(self.path, about, self.rows)
        write_table(self.path.with_suffix(".md"), about, self.rows)


def questions(options: argparse.Namespace, training: str) -> Iterator[Row]:
    """Yield rows without results: everything to measure of one training."""
    for bits in options.uniform:
        yield Row(chosen_by="uniform", variant=str(bits), training=training)
    for seed in range(options.seeds):
        for variant in options.searches:
            for budget in options.budgets if variant == "corrections" or seed == 0 else ():
                last = max(options.evaluations)
                yield Row(
                    chosen_by="haq", variant=variant, training=training, budget=budget, seed=seed, evaluations=last
                )
    for variant in options.widths:
        for peer in options.peers:
            for budget in options.budgets:
                yield Row(chosen_by=peer, variant=variant, training=training, budget=budget)


def answer(bench: Bench, row: Row) -> Iterator[Row]:
    """Yield the row or rows that answer a question."""
    if row.chosen_by == "uniform":
        yield bench.uniform(row)
    elif row.chosen_by == "haq":
        yield from bench.search(row)
    else:
        yield bench.peer(row)


def command() -> str:
    """Return the command of this call, without the folders of absolute paths."""
    words = [re.sub(r"(^|:)/.*/", r"\1", word) for word in sys.argv[1:]]
    return shlex.join(["python", "scripts/peers/compare.py", *words])


def cpu_seconds() -> float:
    """Return the CPU-seconds of this process and of the solvers that it started."""
    return sum(os.times()[:4])


def main() -> None:
    """Measure everything that is not in the file yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="digits_cnn, cifar_resnet20 or any other that haq knows")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--weights", nargs="+", default=[None])
    parser.add_argument("--report-images", type=int)
    parser.add_argument("--search-images", type=int)
    parser.add_argument("--search-from", choices=("val", "train"), default="val")
    parser.add_argument("--budgets", nargs="+", type=float, default=[4.0, 3.0, 2.5, 2.25])
    parser.add_argument("--evaluations", nargs="+", type=int, default=[20, 70])
    parser.add_argument("--seeds", type=int, default=3, help="searches of haq; those without corrections have one")
    parser.add_argument("--searches", nargs="*", choices=SEARCHES, default=list(SEARCHES))
    parser.add_argument("--uniform", nargs="*", type=int, default=[8, 4, 3, 2])
    parser.add_argument("--widths", nargs="+", choices=["2 to 8", "2, 4, 8"], default=["2 to 8"])
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--out", type=Path, default=Path("results/peers"))
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"{options.model.rpartition(':')[2]}.json"
    rows = Rows(path, *read_rows(path))
    for weights in options.weights:
        bench = Bench(options, weights)
        for row in questions(options, Path(weights or options.model).stem):
            if not rows.has(row):
                for found in answer(bench, row):
                    rows.add(bench, found)


if __name__ == "__main__":
    main()
