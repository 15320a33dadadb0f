"""Search ResNet-20 on CIFAR-10 and MobileNet-V1 and V2 on ImageNet, and compare with uniform bits.

    python scripts/experiments/search_networks.py cifar_resnet20 --data DIR --weights DIR --out results/networks

The data folder holds `cifar10` and `imagenet` as image folders, the weights folder the weights of ResNet-20; those of
the MobileNets are read from HAQ_DATA. Budgets are the costs of uniform bits, or fractions of the cost at 8 bits. Every
run has a folder under `--runs` and is resumed when the script is started again; policies, plots and tables are written
to `--out`.
"""

import argparse
import json
import shlex
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from haq.config import SearchConfig, search_config
from haq.costs.pricing import cost_in
from haq.evaluation.evaluator import Evaluator
from haq.experiment.inputs import Inputs
from haq.experiment.preparation import prepare, prepare_network
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.problem import Network
from haq.files import write_atomically
from haq.formatting import format_cost, percent
from haq.policy import load_policy
from haq.reporting.plots.run import draw_missing
from haq.runs.environment import describe_environment
from haq.searching.search import search_configured
from hardware_sim.cost import Objective

TARGETS: dict[str, tuple[str, Objective]] = {
    "bismo-edge": ("bismo-edge", "latency"),
    "bismo-cloud": ("bismo-cloud", "latency"),
    "size": ("bismo-edge", "size"),
    "energy": ("bitfusion-edge", "energy"),
}
"""Name: device and objective."""
WIDTHS = (4, 5, 6, 8)
ON_A_GRID = "MobileNet-V2's weights were stored on an 8-bit grid: 8-bit weights lose nothing by construction."
_MOBILENET = {
    "normalize": "half",
    "resize": 227,
    "crop": 224,
    "search_images": 300,
    "calibration_images": 256,
    "eval_batch": 50,
}
_BITS = ("4bits", "5bits", "6bits")
_MOBILENET_BUDGETS = {"bismo-edge": (*_BITS, "0.513"), "bismo-cloud": _BITS, "energy": ("0.526",), "size": ("5bits",)}


@dataclass(frozen=True, slots=True)
class Case:
    """A network, its data, and the budgets of every target."""

    weights: str | None
    data: str
    budgets: dict[str, tuple[str, ...]]
    settings: dict[str, Any]


CASES = {
    "cifar_resnet20": Case(
        "cifar10jpeg_resnet20_ft3ep.pth",
        "cifar10:{}/cifar10",
        dict.fromkeys(("bismo-edge", "bismo-cloud", "size"), ("3bits", "4bits", "5bits")),
        {"search_from": "train", "search_images": 320},
    ),
    "tf_mobilenets:mobilenet_v1_075": Case(None, "imagefolder:{}/imagenet", _MOBILENET_BUDGETS, _MOBILENET),
    "tf_mobilenets:mobilenet_v2": Case(None, "imagefolder:{}/imagenet", _MOBILENET_BUDGETS, _MOBILENET),
}


@dataclass(frozen=True, slots=True)
class Job:
    """Settings of all searches of one network for one target."""

    model: str
    target: str
    data: Path
    weights: Path
    runs: Path
    episodes: int
    seed: int

    def config(self, budget: str) -> SearchConfig:
        """Return the configuration of the search within a budget."""
        case, (hardware, objective) = CASES[self.model], TARGETS[self.target]
        return search_config(
            model=self.model,
            weights=str(self.weights / case.weights) if case.weights else None,
            data=case.data.format(self.data),
            hardware=hardware,
            objective=objective,
            budget=(budget,),
            episodes=self.episodes,
            seed=self.seed,
            **case.settings,
        )

    def out(self, budget: str) -> Path:
        """Return the folder of a run."""
        return self.runs / f"{self.model.rpartition(':')[2]}-{self.target}-{budget}"


def run(job: Job) -> list[dict[str, Any]]:
    """Return one row per budget: the policy found and uniform bits, on the report split."""
    torch.set_num_threads(1)
    budgets = CASES[job.model].budgets[job.target]
    network, fisher, report = _prepared(replace(job, target=next(iter(TARGETS))))
    rows = []
    for budget in budgets:
        config = job.config(budget)
        result = search_configured(config, job.out(budget), inputs=Inputs(network=network, losses=fisher), resume=True)
        summary = result.summary.model_dump(mode="json")
        rows.append(
            {
                "model": job.model,
                "target": job.target,
                "budget": budget,
                "summary": summary,
                "run": str(job.out(budget)),
            }
        )
    widths = {int(budget.removesuffix("bits")) for budget in budgets if budget.endswith("bits")}
    uniform = uniform_rows(network, report, job.config(budgets[0]), widths=sorted({*WIDTHS, *widths}))
    return [row | {"uniform": uniform} for row in rows]


@lru_cache(maxsize=1)
def _prepared(job: Job) -> tuple[Network, LayerLosses, Evaluator]:
    """Prepare what does not depend on the target, once per process."""
    config = job.config(CASES[job.model].budgets[job.target][0])
    network = prepare_network(config)
    report = Evaluator(network.engine, network.task, "report", batch_size=config.eval_batch)
    return network, network_fisher(network), report


def uniform_rows(
    network: Network, report: Evaluator, config: SearchConfig, *, widths: Sequence[int]
) -> list[dict[str, Any]]:
    """Return report accuracy and cost of uniform bits, first and last layer at 8."""
    problem = prepare(config, network=network)
    allowed, priced, rows = problem.allowed, problem.priced, []
    for width in widths:
        pairs = [allowed.uniform(layer.tied_to or layer.name, width) for layer in priced.layers]
        w_bits, a_bits = zip(*pairs, strict=True)
        cost = cost_in(config.objective, priced.table.policy_cost(w_bits, a_bits))
        rows.append({"bits": width, "cost": cost, "accuracy": report.evaluate(w_bits, a_bits).accuracy})
    return rows


def dearest_within(limit: float, uniform: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return the dearest uniform bits within a limit, which they may reach up to float rounding."""
    return max((each for each in uniform if each["cost"] <= limit * (1 + 1e-9)), key=lambda each: float(each["cost"]))


def spoken(budget: str) -> str:
    """Return a budget as tables show it.

    >>> spoken("4bits"), spoken("0.513")
    ('4 bits', '0.513 of 8 bits')
    """
    return budget.replace("bits", " bits") if budget.endswith("bits") else f"{budget} of 8 bits"


def accuracy_table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield a Markdown table of policies beside uniform bits."""
    yield (
        "| network | target | budget | cost | policy | uniform, same budget | difference | "
        + " | ".join(f"uniform {width}" for width in WIDTHS)
        + " | float | evaluations |"
    )
    yield "|---" * (9 + len(WIDTHS)) + "|"
    for row in rows:
        summary, uniform = row["summary"], {each["bits"]: each for each in row["uniform"]}
        found, name = summary["accuracy"], row["model"].rpartition(":")[2]
        limit, objective = summary["budget"][0]["value"], TARGETS[row["target"]][1]
        same = dearest_within(limit, row["uniform"])
        others = " | ".join(percent(uniform[width]["accuracy"], digits=2) for width in WIDTHS)
        folder = Path(row["run"]).name
        yield (
            f"| {name} | [{row['target']}]({folder}/policy.png) | {spoken(row['budget'])} | "
            f"{format_cost(objective, limit)} | {percent(found, digits=2)} | "
            f"{percent(same['accuracy'], digits=2)} | {100 * (found - same['accuracy']):+.2f} | {others} | "
            f"{percent(summary['accuracy_fp32'], digits=2)} | {summary['evaluations']} |"
        )


def bits_table(rows: Sequence[dict[str, Any]], runs: Path) -> Iterator[str]:
    """Yield a Markdown table of the mean bits of each kind of layer, without the first and the last layer."""
    yield "| network | target | budget | kind | layers | weight bits | activation bits |"
    yield "|---|---|---|---|---|---|---|"
    for row in rows:
        inner = load_policy(runs / Path(row["run"]).name / "policy.json").layers[1:-1]
        for kind in sorted({layer.kind for layer in inner}):
            of_kind = [layer for layer in inner if layer.kind == kind]
            w_bits, a_bits = (mean(getattr(layer, name) for layer in of_kind) for name in ("w_bits", "a_bits"))
            name = row["model"].rpartition(":")[2]
            yield (
                f"| {name} | {row['target']} | {spoken(row['budget'])} | {kind} | {len(of_kind)} | "
                f"{w_bits:.2f} | {a_bits:.2f} |"
            )


def main() -> None:
    """Run what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", choices=list(CASES))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/networks"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    jobs = [
        Job(model, target, options.data, options.weights, options.runs, options.episodes, options.seed)
        for model in options.models
        for target in CASES[model].budgets
    ]
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        rows = [row for found in pool.map(run, jobs) for row in found]
    options.out.mkdir(parents=True, exist_ok=True)
    for row in rows:
        folder = options.out / Path(row["run"]).name
        folder.mkdir(exist_ok=True)
        draw_missing(Path(row["run"]))
        for name in (
            "policy.json",
            "policy.png",
            "learning_curve.png",
            "config.json",
            "environment.json",
            "summary.json",
        ):
            shutil.copy(Path(row["run"]) / name, folder / name)
    images = {row["model"].rpartition(":")[2]: row["summary"]["report_images"] for row in rows}
    environment = describe_environment(seed=options.seed, device="cpu")
    text = [
        "# Real networks",
        "",
        "Report accuracy in percent; first and last layer at 8 bits everywhere. A budget is what uniform bits of that "
        "width cost on the target, or a fraction of the cost of 8 bits. Uniform bits have one width for weights and "
        "activations (targets of latency and energy), the dearest within the budget; the picture of a run shows the "
        "best uniform bits, whose two widths may differ. "
        "Differences in points. Report images: "
        + ", ".join(f"{name} {count}" for name, count in images.items())
        + "."
        + (" " + ON_A_GRID if any(row["model"].endswith("mobilenet_v2") for row in rows) else ""),
        "",
        *accuracy_table(rows),
        "",
        "## Mean bits by kind of layer",
        "",
        *bits_table(rows, options.out),
        "",
        f"Made with `python {shlex.join(sys.argv)}`; one thread a search.",
        f"Versions: {', '.join(f'{name} {version}' for name, version in environment['packages'].items() if version)}.",
    ]
    write_atomically(options.out / "README.md", ("\n".join(text) + "\n").encode())
    write_atomically(options.out / "results.json", json.dumps(rows).encode())


if __name__ == "__main__":
    main()
