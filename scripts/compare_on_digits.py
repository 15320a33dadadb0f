"""What a search is worth on the digits network: beside every uniform pair of bits, and DDPG beside random search.

For several budgets and seeds; a seed trains the network and drives the search. The report names the best of all uniform
(w, a) pairs of no greater cost, chosen on the report split, which favours the uniform pair. Runs go on where an earlier
call left them.

    python scripts/compare_on_digits.py --hardware bismo-edge --out results/digits-bismo-edge
"""

import argparse
import json
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

import haq
from haq.cache import write_atomically
from haq.config import search_config
from haq.environment import describe_environment
from haq.evaluation import Evaluator
from haq.models.digits_training import train_digits
from haq.plots import save_figure
from haq.problem import prepare
from haq.summary import uniform_bits_of

METHODS = {
    "ddpg": {"agent": "ddpg"},
    "ddpg, fidelity": {"agent": "ddpg", "reward": "fidelity"},
    "random": {"agent": "random"},
}
"""Name in the table: settings."""
DIFFERENCES = (("ddpg", "uniform"), ("ddpg, fidelity", "uniform"), ("ddpg", "random"))
COLOURS = ("#0072B2", "#009E73", "#E69F00")
WIDTHS = range(2, 9)


@dataclass(frozen=True, slots=True)
class Job:
    """One search."""

    hardware: str
    budget: str
    method: str
    seed: int
    episodes: int
    folder: str

    @property
    def out(self) -> Path:
        """Where its run lies."""
        return Path(self.folder) / f"{self.method.replace(', ', '-')}-b{self.budget}-s{self.seed}"

    @property
    def settings(self) -> dict[str, Any]:
        """What the search is asked for."""
        return {"hardware": self.hardware, "budget": self.budget, "seed": self.seed, **METHODS[self.method]}


def run(job: Job) -> dict[str, Any]:
    """The summary of a search, and its best search accuracy after every episode."""
    torch.set_num_threads(1)
    result = haq.search(
        train_digits(seed=job.seed), "digits", out=job.out, resume=True, episodes=job.episodes, **job.settings
    )
    lines = [json.loads(line) for line in (job.out / "episodes.jsonl").read_text(encoding="utf-8").splitlines()]
    curve = np.maximum.accumulate([line["accuracy"] for line in lines]).tolist()
    return {**asdict(job), "summary": dict(result.summary), "curve": curve}


def uniform_table(hardware: str, seed: int) -> list[dict[str, Any]]:
    """Report accuracy and cost ratio of all uniform pairs, first and last layer at 8 bits."""
    torch.set_num_threads(1)
    problem = prepare(
        search_config(model="DigitsCNN", hardware=hardware, budget=("1.0",)), model=train_digits(seed=seed)
    )
    report = Evaluator(problem.network.engine, problem.task, "report")
    rows = []
    for pair in product(WIDTHS, WIDTHS):
        decisions = uniform_bits_of(problem, *pair)
        bits = problem.choice.expand(decisions)
        accuracy = report.evaluate(bits[:, 0].tolist(), bits[:, 1].tolist()).accuracy
        cost_ratio = float(problem.choice.total(decisions)[0] / problem.choice.limits[0])
        rows.append(
            {"pair": pair, "accuracy": accuracy, "cost_ratio": cost_ratio, "images": problem.task.size("report")}
        )
    return rows


def table(results: list[dict[str, Any]], uniform: dict[int, list[dict[str, Any]]], budgets: list[str]) -> list[str]:
    """Markdown: accuracies in percent, mean and standard deviation over seeds, and paired differences in points."""
    differences = " | ".join(f"{ours} - {theirs}" for ours, theirs in DIFFERENCES)
    lines = [f"| budget | float | uniform | {' | '.join(METHODS)} | {differences} |"]
    lines.append("|---" * (3 + len(METHODS) + len(DIFFERENCES)) + "|")
    for budget in budgets:
        by_method = {method: _accuracies(results, budget, method) for method in METHODS}
        seeds = sorted(by_method["ddpg"])
        best = {
            seed: max((row["accuracy"], row["pair"]) for row in uniform[seed] if row["cost_ratio"] <= float(budget))
            for seed in seeds
        }
        floats = [
            each["summary"]["accuracy_fp32"]
            for each in results
            if each["budget"] == budget and each["method"] == "ddpg"
        ]
        pairs = ", ".join(sorted({f"{w}/{a}" for _, (w, a) in best.values()}))
        by_method["uniform"] = {seed: best[seed][0] for seed in seeds}
        cells = [budget, _points(floats), f"{_points([each for each, _ in best.values()])} ({pairs})"]
        cells += [_points(list(by_method[method].values())) for method in METHODS]
        for ours, theirs in DIFFERENCES:
            cells.append(_points([by_method[ours][seed] - by_method[theirs][seed] for seed in seeds], sign="+"))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def curves(results: list[dict[str, Any]], budgets: list[str], title: str) -> Figure:
    """Best search accuracy so far: mean over seeds, and the range, one panel a budget."""
    figure = Figure(figsize=(10, 2.6 * ((len(budgets) + 1) // 2) + 0.6), layout="constrained")
    panels = figure.subplots((len(budgets) + 1) // 2, 2, squeeze=False).ravel()
    for panel, budget in zip(panels, budgets, strict=False):
        for method, colour in zip(METHODS, COLOURS, strict=True):
            found = 100 * np.array(
                [each["curve"] for each in results if (each["budget"], each["method"]) == (budget, method)]
            )
            episodes = np.arange(1, found.shape[1] + 1)
            panel.plot(episodes, found.mean(axis=0), color=colour, label=f"{method}, mean of {len(found)} seeds")
            panel.fill_between(episodes, found.min(axis=0), found.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        panel.set_title(f"budget {100 * float(budget):g} % of 8 bits", loc="left", fontsize=10)
        panel.set_ylim(bottom=max(0.0, panel.get_ylim()[0]), top=100.5)
        panel.set_xlabel("episode")
        panel.set_ylabel("best search accuracy, %")
        panel.grid(axis="y", alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(loc="lower right", frameon=False)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
    return figure


def main() -> None:
    """Run what is missing, then write `README.md`, `results.json` and `curves.png`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hardware", default="bismo-edge")
    parser.add_argument("--budgets", nargs="+", default=["0.25", "0.35", "0.45", "0.6"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", default="runs", help="where the runs lie while they are made")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    seeds = range(options.seeds)
    jobs = [
        Job(options.hardware, budget, method, seed, options.episodes, options.runs)
        for budget, method, seed in product(options.budgets, METHODS, seeds)
    ]
    for seed in seeds:
        train_digits(seed=seed)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(run, jobs))
        tables = dict(zip(seeds, pool.map(uniform_table, [options.hardware] * len(seeds), seeds), strict=True))
    images = tables[0][0]["images"]
    environment = describe_environment(seed=0, device="cpu")
    title = f"Digits network on {options.hardware}, {options.episodes} episodes, {options.seeds} seeds"
    text = [
        f"# {title}",
        "",
        f"Report accuracy in percent on {images} images a seed: mean ± standard deviation over the seeds; differences "
        "are paired by seed, in points. Costs are latency over that of 8 bits everywhere. Uniform is the best of all "
        "uniform pairs of no greater cost, chosen on these very images.",
        "",
        *table(results, tables, options.budgets),
        "",
        "![Best search accuracy so far](curves.png)",
        "",
        f"Made with `python {shlex.join(sys.argv)}`, seeds 0 to {options.seeds - 1}.",
        f"Versions: {', '.join(f'{name} {version}' for name, version in environment['packages'].items() if version)}.",
    ]
    options.out.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out / "README.md", ("\n".join(text) + "\n").encode())
    document = {"results": results, "uniform": tables, "environment": environment}
    write_atomically(options.out / "results.json", json.dumps(document).encode())
    save_figure(curves(results, options.budgets, title), options.out / "curves.png")


def _accuracies(results: list[dict[str, Any]], budget: str, method: str) -> dict[int, float]:
    return {
        each["seed"]: each["summary"]["accuracy"]
        for each in results
        if (each["budget"], each["method"]) == (budget, method)
    }


def _points(fractions: list[float], *, sign: str = "") -> str:
    values = [100 * each for each in fractions]
    return f"{mean(values):{sign}.2f} ± {stdev(values):.2f}"


if __name__ == "__main__":
    main()
