"""Compare bits of language models: float, uniform, searched at equal cost, and fine-tuned, for several seeds.

For each seed a network is trained in float. Uniform bits are evaluated, policies are searched at the size and at the
latency of uniform bits, and uniform and searched bits are fine-tuned with learned scales and shifts. Uniform bits have
8 bits in the first and the last layer; searches choose the bits of these too. Activations have 8 bits where the size is
searched, in the uniform bits of that size (w3a8 ...) too. Each result is one JSON file in --out; a second call computes
what is missing and prints the table. Weights and folders of runs lie in --runs.

    python scripts/experiments/language_models.py --data "text:DIR?level=char" --out results/language_models/shakespeare
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from math import log
from pathlib import Path
from statistics import mean
from typing import Any

from stored_cells import Cell, stored_cell

import haq
from haq.config import search_config
from haq.evaluation.evaluator import Evaluator
from haq.experiment.preparation import prepare_network
from haq.experiment.problem import Network
from haq.studies.comparison.intervals import paired_interval
from haq.training.config import training_config
from haq.training.train import train_configured

MIN_SEEDS = 2
"""Least number of seeds that give an interval."""


@dataclass(frozen=True)
class Plan:
    """Settings that all cells share, for one seed."""

    options: argparse.Namespace
    seed: int

    @property
    def weights(self) -> Path:
        """File of the float network."""
        return Path(self.options.runs) / f"float-s{self.seed}.safetensors"

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of network, data and device."""
        names = ("hardware", "search_images", "report_images")
        given = {name: getattr(self.options, name) for name in names if getattr(self.options, name) is not None}
        return {"weights": str(self.weights), "seed": self.seed, "engine": "torch", **given}

    @cached_property
    def network(self) -> Network:
        """The float network, prepared for evaluations."""
        config = search_config(model=self.options.model, data=self.options.data, **self.settings)
        return prepare_network(config)

    def cells(self) -> Iterator[tuple[str, Callable[[], Cell]]]:
        """Yield the name of each cell, and the function that computes it."""
        yield "float", self.train
        for bits in self.options.bits:
            yield f"w{bits}a{bits}", partial(self.uniform, bits, bits)
        for bits in self.options.search_bits:
            yield f"w{bits}a8", partial(self.uniform, bits, 8)
            yield f"latency of w{bits}a{bits}", partial(self.search, bits, "latency")
            yield f"size of w{bits}a8", partial(self.search, bits, "size")
        for bits in self.options.finetune_bits:
            yield f"w{bits}a{bits}, fine-tuned", partial(self.finetune, (bits, bits))
            if bits in self.options.search_bits:
                yield f"latency of w{bits}a{bits}, fine-tuned", partial(self.finetune, self.folder(bits, "latency"))

    def folder(self, bits: int, objective: str) -> Path:
        """Return the folder of a search."""
        return Path(self.options.runs) / f"{objective}-{bits}-s{self.seed}"

    def train(self) -> Cell:
        """Train the float network."""
        settings = {name: value for name, value in self.settings.items() if name != "weights"}
        config = search_config(model=self.options.model, data=self.options.data, **settings)
        learning = training_config(epochs=self.options.epochs, dropout=self.options.dropout)
        result = train_configured(config, learning, self.weights)
        return {
            "perplexity": -result.accuracy,
            "search_perplexity": -result.search_accuracy,
            "epochs": [
                {"epoch": each.epoch, "perplexity": -each.search_accuracy, "lr": each.lr} for each in result.epochs
            ],
        }

    def widths(self, bits: int) -> list[int]:
        """Return widths of all layers: 8 for the first and the last one, the same for all others."""
        return [8, *[bits] * (len(self.network.priced.layers) - 2), 8]

    def cost_ratio(self, bits: int, objective: str) -> float:
        """Return the cost of uniform bits, relative to that of 8 bits in all layers."""
        priced, widths = self.network.priced, self.widths(bits)
        cost, baseline = priced.table.policy_cost(widths, widths), priced.baseline
        if objective == "size":
            return cost.weight_bytes / baseline.weight_bytes
        assert cost.latency_s is not None
        assert baseline.latency_s is not None
        return cost.latency_s / baseline.latency_s

    def uniform(self, w_bits: int, a_bits: int) -> Cell:
        """Evaluate uniform bits."""
        widths = self.widths(w_bits), self.widths(a_bits)
        task = self.network.task
        found = {split: Evaluator(self.network.engine, task, split) for split in ("report", "search")}
        scores = {split: each.evaluate(*widths).accuracy for split, each in found.items()}
        return {
            "perplexity": -scores["report"],
            "search_perplexity": -scores["search"],
            "perplexity_fp32": -found["report"].accuracy_fp32,
        }

    def search(self, bits: int, objective: str) -> Cell:
        """Search a policy at the cost of uniform bits."""
        result = haq.search(
            self.options.model,
            self.options.data,
            objective=objective,
            budget=self.cost_ratio(bits, objective),
            episodes=self.options.episodes,
            out=self.folder(bits, objective),
            resume=True,
            first_last_bits=None,
            **self.settings,
        )
        summary = result.summary
        return {
            "perplexity": -summary.accuracy,
            "search_perplexity": -summary.search_accuracy,
            "perplexity_fp32": -summary.accuracy_fp32,
            "cost_ratio": summary.cost_ratio,
            "layers": [[layer.name, layer.w_bits, layer.a_bits] for layer in result.policy.layers],
        }

    def finetune(self, policy: tuple[int, int] | Path) -> Cell:
        """Fine-tune uniform bits, or the policy of a search."""
        settings = {name: value for name, value in self.settings.items() if name != "engine"}
        result = haq.finetune(
            self.options.model,
            self.options.data,
            policy=policy,
            epochs=self.options.finetune_epochs,
            batch_size=32,
            optimizer="adamw",
            lr=0.0005,
            max_gradient_norm=0.25,
            dropout=self.options.dropout,
            **settings,
        )
        summary = result.summary
        return {
            "perplexity": -summary.accuracy,
            "search_perplexity": -summary.search_accuracy,
            "search_perplexity_start": -summary.search_accuracy_start,
            "perplexity_fp32": -summary.accuracy_fp32,
        }


def main() -> None:
    """Compute the cells that are missing, unless only the table is asked for, and print the table."""
    options = _options()
    kept = argparse.Namespace(**{**vars(options), "data": options.data.partition("?")[2]})  # no folder
    options.out.mkdir(parents=True, exist_ok=True)
    options.runs.mkdir(parents=True, exist_ok=True)
    cells: dict[str, dict[int, Cell]] = {}
    for seed in options.seeds:
        for name, compute in Plan(options, seed).cells():
            path = options.out / f"{_file_name(name)}-s{seed}.json"
            if path.is_file() or not options.table:
                cells.setdefault(name, {})[seed] = stored_cell(path, compute, kept, seed=seed)
    print("\n".join(table(cells)))


def table(cells: Mapping[str, Mapping[int, Cell]]) -> list[str]:
    """Return a Markdown table: mean perplexity on the report split, and its ratios with 95 % intervals over seeds."""
    heads = ("bits", "seeds", "perplexity", "against float", "against uniform bits of equal cost", "mean weight bits")
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    for name, by_seed in cells.items():
        value = mean(cell["perplexity"] for cell in by_seed.values())
        others = (cells["float"] if name != "float" else {}, cells.get(_uniform(name), {}))
        ratios = " | ".join(_ratio(by_seed, other) for other in others)
        lines.append(f"| {name} | {len(by_seed)} | {value:.3f} | {ratios} | {_mean_bits(by_seed)} |")
    return lines


def _uniform(name: str) -> str:
    """Return the name of the uniform bits at whose cost a policy was searched; empty for other cells."""
    _, of, uniform = name.partition(" of ")
    return uniform if of else ""


def _ratio(by_seed: Mapping[int, Cell], others: Mapping[int, Cell]) -> str:
    """Return the change of perplexity from others, paired by seed, in percent; empty without others."""
    both = [seed for seed in by_seed if seed in others]
    logs = [log(by_seed[seed]["perplexity"] / others[seed]["perplexity"]) for seed in both]
    if len(logs) < MIN_SEEDS:
        return f"{100 * logs[0]:+.1f} %" if logs else ""
    interval = paired_interval(logs)
    return f"{100 * mean(logs):+.1f} % ({100 * interval.low:+.1f} to {100 * interval.high:+.1f})"


def _file_name(cell: str) -> str:
    return cell.replace(", ", "-").replace(" ", "-")


def _mean_bits(by_seed: Mapping[int, Cell]) -> str:
    widths = [w for cell in by_seed.values() for _, w, _ in cell.get("layers", ())]
    return f"{mean(widths):.2f}" if widths else ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="text:DIR, with options")
    parser.add_argument("--model", default="lstm_300")
    parser.add_argument("--hardware", default="bismo-edge")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--runs", type=Path, default=Path("language-model-runs"), help="folder of weights and runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="print the table of the cells that there are")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--dropout", type=float, default=None)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--finetune-epochs", type=int, default=3)
    parser.add_argument("--search-images", type=int, default=None)
    parser.add_argument("--report-images", type=int, default=None)
    for name, default in (("bits", [8, 4, 3, 2]), ("search-bits", [4, 3, 2]), ("finetune-bits", [4, 3])):
        parser.add_argument(f"--{name}", type=int, nargs="*", default=default)
    return parser.parse_args()


if __name__ == "__main__":
    main()
