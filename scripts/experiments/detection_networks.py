"""Compare bits of the embedded detector: float, uniform, searched at equal cost, and fine-tuned, for several seeds.

For each seed a detector is trained on the shapes. Uniform bits are evaluated; policies are searched at the latency of
uniform bits, and at their size with 8-bit activations; the float network, uniform and searched bits are fine-tuned
alike. First layer and head have 8 bits. Each result is one JSON file in --out; a second call computes what is missing
and prints the tables. Weights and folders of runs lie in --runs.

    python scripts/experiments/detection_networks.py --out results/detection/shapes
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from safetensors.torch import save_file
from stored_cells import Cell, stored_cell

import haq
from haq.config import search_config
from haq.evaluation.evaluator import Evaluator
from haq.experiment.learning_request import PolicyLike
from haq.experiment.preparation import prepare_network
from haq.experiment.problem import Network
from haq.finetuning.journal import Summary
from haq.network.models.shapes_training import train_shapes
from haq.policy import CostSummary
from haq.studies.comparison.intervals import paired_interval

Cells = Mapping[str, Mapping[int, Cell]]
"""Cells by name and seed."""


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
        """Settings of network, device and engine."""
        return {"weights": str(self.weights), "hardware": self.options.hardware, "seed": self.seed}

    @cached_property
    def network(self) -> Network:
        """The float network, prepared for evaluations."""
        return prepare_network(search_config(model="shapes_detector", data="shapes", engine="torch", **self.settings))

    def cells(self) -> Iterator[tuple[str, Callable[[], Cell]]]:
        """Yield the name of each cell, and the function that computes it."""
        yield "float", self.train
        for w_bits, a_bits in self.options.bits:
            yield f"uniform-w{w_bits}a{a_bits}", partial(self.uniform, w_bits, a_bits)
        for objective, bits in self.options.searches:
            yield f"searched-{objective}-{bits}", partial(self.search, bits, objective)
        for name in self.options.finetune:
            policies: dict[str, PolicyLike] = {"float": (None, None)}
            policies |= {f"uniform-w{w}a{a}": (w, a) for w, a in self.options.bits}
            policies |= {f"{kind}-{bits}": self.folder(bits, kind) for kind, bits in self.options.searches}
            yield f"finetuned-{name}", partial(self.finetune, policies[name])

    def folder(self, bits: int, objective: str) -> Path:
        """Return the folder of a search."""
        return Path(self.options.runs) / f"{objective}-{bits}-s{self.seed}"

    def train(self) -> Cell:
        """Train the float network, or take it from the cache, and measure it."""
        save_file(train_shapes(seed=self.seed).state_dict(), self.weights)
        return {"ap": self.score("report", None), "search_ap": self.score("search", None)}

    def uniform(self, w_bits: int, a_bits: int) -> Cell:
        """Evaluate uniform bits."""
        inner = len(self.network.priced.layers) - 2
        widths = [8, *[w_bits] * inner, 8], [8, *[a_bits] * inner, 8]
        cost = self.network.priced.table.policy_cost(*widths)
        scores = {split: self.score(split, widths) for split in ("report", "search")}
        return {"ap": scores["report"], "search_ap": scores["search"], "cost": CostSummary.of(cost).model_dump()}

    def score(self, split: Any, widths: tuple[Sequence[int], Sequence[int]] | None) -> float:
        """Return AP on a split; of the float network if `widths` is None."""
        evaluator = Evaluator(self.network.engine, self.network.task, split)
        return evaluator.accuracy_fp32 if widths is None else evaluator.evaluate(*widths).accuracy

    def search(self, bits: int, objective: str) -> Cell:
        """Search a policy at the cost of uniform bits; under the size objective, activations have 8 bits."""
        result = haq.search(
            "shapes_detector",
            "shapes",
            objective=objective,
            budget=f"{bits}bits",
            episodes=self.options.episodes,
            engine="torch",
            out=self.folder(bits, objective),
            resume=True,
            **self.settings,
        )
        summary = result.summary
        return {
            "ap": summary.accuracy,
            "search_ap": summary.search_accuracy,
            "cost": summary.cost.model_dump(),
            "layers": [[layer.name, layer.w_bits, layer.a_bits] for layer in result.policy.layers],
        }

    def finetune(self, policy: PolicyLike) -> Cell:
        """Fine-tune the float network, uniform bits, or the policy of a search."""
        names = ("epochs", "batch_size", "optimizer", "lr")
        learning = {name: getattr(self.options, name) for name in names} | {"teacher": False}
        result = haq.finetune("shapes_detector", "shapes", policy=policy, **learning, **self.settings)
        summary: Summary = result.summary
        return {
            "ap": summary.accuracy,
            "search_ap": summary.search_accuracy,
            "search_ap_start": summary.search_accuracy_start,
            "cost": summary.cost.model_dump(),
        }


def main() -> None:
    """Compute the cells that are missing, and print the tables."""
    options = _options()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    options.runs.mkdir(parents=True, exist_ok=True)
    cells: dict[str, dict[int, Cell]] = {}
    for seed in options.seeds:
        for name, compute in Plan(options, seed).cells():
            path = options.out / f"{name}-s{seed}.json"
            if path.exists() or not options.table:
                cells.setdefault(name, {})[seed] = stored_cell(path, compute, options, seed=seed)
    print("\n".join([*table(cells), "", *goals(cells)]))


def table(cells: Cells) -> list[str]:
    """Return a Markdown table: AP on the report split, against the float network and uniform bits at equal cost."""
    lines = [
        "| bits | seeds | AP | against float | against uniform at equal cost | latency | size | mean weight bits |",
        "|" + "---|" * 8,
    ]
    for name, by_seed in cells.items():
        reference = "finetuned-float" if name.startswith("finetuned") else "float"
        row = [name, f"{len(by_seed)}", f"{100 * mean(cell['ap'] for cell in by_seed.values()):.1f}"]
        row.append(difference(cells, name, "float"))
        if reference in cells and reference not in ("float", name):
            row[-1] += f"; against {reference} {difference(cells, name, reference)}"
        row += [difference(cells, name, uniform_of(name)), *_costs(by_seed.values()), _mean_bits(by_seed.values())]
        lines.append(f"| {' | '.join(row)} |")
    return lines


def uniform_of(name: str) -> str | None:
    """Return the cell of the uniform bits whose cost a policy has; None if there is none.

    >>> uniform_of("finetuned-size-4"), uniform_of("searched-latency-3"), uniform_of("uniform-w4a4")
    ('finetuned-uniform-w4a8', 'uniform-w3a3', None)
    """
    kind, *rest = name.split("-")
    if kind == "uniform" or len(rest) != 2 or rest[0] == "uniform":
        return None
    objective, bits = rest
    uniform = f"uniform-w{bits}a{bits if objective == 'latency' else 8}"
    return f"finetuned-{uniform}" if kind == "finetuned" else uniform


def difference(cells: Cells, name: str, other: str | None) -> str:
    """Return the mean difference of AP in points, and its interval over the seeds that both have."""
    if other is None or name == other or other not in cells:
        return ""
    points = [
        100 * (cell["ap"] - cells[other][seed]["ap"]) for seed, cell in cells[name].items() if seed in cells[other]
    ]
    if len(points) < 2:
        return "" if not points else f"{points[0]:+.1f}"
    found = paired_interval(points)
    return f"{found.mean:+.1f} ({found.low:+.1f} to {found.high:+.1f})"


def goals(cells: Cells) -> list[str]:
    """Return a line for each goal: the values that it is about."""
    lines = []
    for name in cells:
        uniform = uniform_of(name)
        if uniform in cells:
            lines.append(f"- {name} against {uniform}: {difference(cells, name, uniform)} points")
    tuned = "finetuned-uniform-w4a4"
    if tuned in cells:
        lines.append(f"- {tuned} against float: {difference(cells, tuned, 'float')} points")
    return lines


def _costs(cells: Any) -> list[str]:
    costs = [cell["cost"] for cell in cells if "cost" in cell]
    if not costs:
        return ["", ""]
    latency, size = (mean(cost[name] for cost in costs) for name in ("latency_s", "weight_bytes"))
    return [f"{1e3 * latency:.3f} ms", f"{size / 1e3:.2f} kB"]


def _mean_bits(cells: Any) -> str:
    widths = [w for cell in cells for _, w, _ in cell.get("layers", ())]
    return f"{mean(widths):.2f}" if widths else ""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hardware", default="bismo-edge")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--runs", type=Path, default=Path("detection-runs"), help="folder of weights and runs")
    parser.add_argument("--table", action="store_true", help="print the tables of the cells that are there")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--lr", type=float, default=0.01)
    bits = ["8,8", "6,6", "4,4", "3,3", "4,8", "3,8"]
    parser.add_argument("--bits", nargs="*", default=bits, help="uniform bits of weights and activations")
    searches = ["latency,4", "latency,3", "size,4", "size,3"]
    parser.add_argument("--searches", nargs="*", default=searches, help="objectives, and bits whose cost is the budget")
    tuned = ["float", "uniform-w4a4", "latency-4", "uniform-w3a3", "latency-3"]
    tuned += ["uniform-w4a8", "size-4", "uniform-w3a8", "size-3"]
    parser.add_argument("--finetune", nargs="*", default=tuned, help="what is fine-tuned")
    options = parser.parse_args()
    options.bits = [tuple(map(int, each.split(","))) for each in options.bits]
    options.searches = [(name, int(bits)) for name, bits in (each.split(",") for each in options.searches)]
    return options


if __name__ == "__main__":
    main()
