"""Compare a sweep over devices and budgets with one independent search for each of them.

Every budget of every device is searched twice with the same seeds: in a sweep, where only the first search runs all
episodes and the others start from what the earlier ones found, and independently, with all episodes. Report accuracies
and KL divergences are averaged over all searches of a seed; intervals are over the seeds.

    python scripts/experiments/compare_sweep.py --seeds 3 --runs runs/sweep > results/sweep.md
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from haq.config import search_config
from haq.evaluation.evaluator import Evaluator
from haq.experiment.inputs import Inputs
from haq.experiment.preparation import prepare_network
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.problem import Network
from haq.policy import PolicyBits
from haq.runs.environment import describe_environment
from haq.searching.search import search_configured
from haq.studies.comparison.intervals import Interval, paired_interval
from haq.studies.pareto.plan import Sweep
from haq.studies.pareto.records import SweepDocument, SweepRecord
from haq.studies.pareto.sweep import run_sweep

DEVICES = ("bismo-edge", "bismo-cloud", "bitfusion-edge")
BUDGETS = ("3bits", "4bits", "5bits", "6bits", "7bits")
PERCENT = 100


def alone(record: SweepRecord, inputs: Inputs, options: argparse.Namespace) -> PolicyBits:
    """Return the policy that an independent search finds for a search of the sweep: w_bits and a_bits."""
    config = search_config(
        model=options.model,
        data=options.data,
        weights=options.weights,
        hardware=record.hardware,
        objective=record.objective,
        budget=(record.budget,),
        episodes=options.episodes,
        seed=record.seed,
    )
    result = search_configured(config, options.runs / "alone" / record.run, inputs=inputs, resume=True)
    return result.policy.w_bits, result.policy.a_bits


def measured(document: SweepDocument, network: Network, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the differences between sweep and independent search in accuracy and divergence on the report split."""
    report = Evaluator(network.engine, network.task, "report")
    inputs = Inputs(network=network, losses=network_fisher(network))
    for record in document.records:
        swept = report.evaluate(record.w_bits, record.a_bits)
        independent = report.evaluate(*alone(record, inputs, options))
        yield {
            "seed": record.seed,
            "accuracy": PERCENT * (swept.accuracy - independent.accuracy),
            "divergence": np.log(swept.divergence / independent.divergence),
        }


def interval(cells: Sequence[dict[str, Any]], key: str, seeds: int) -> Interval:
    """Return the interval of the means over all searches of each seed."""
    return paired_interval(
        [float(np.mean([each[key] for each in cells if each["seed"] == seed])) for seed in range(seeds)]
    )


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits_cnn")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--weights")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--runs", type=Path, default=Path("runs/sweep"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = search_config(
        model=options.model, data=options.data, weights=options.weights, episodes=options.episodes, seed=0
    )
    sweep = Sweep(config=config, devices=DEVICES, objectives=("latency",), budgets=BUDGETS, seeds=options.seeds)
    document = run_sweep(sweep, options.runs / "sweep")
    cells = list(measured(document, prepare_network(config), options))
    new = [record.new_evaluations for record in document.records]
    points, ratios = (interval(cells, key, options.seeds) for key in ("accuracy", "divergence"))
    searches = len(new) / options.seeds
    print(
        "# A sweep compared with independent searches\n\n"
        f"{options.model}, {len(DEVICES)} devices ({', '.join(DEVICES)}), latency, {len(BUDGETS)} budgets "
        f"({', '.join(BUDGETS)}), {options.seeds} seeds, {options.episodes} episodes a search; "
        f"{document.records[0].report_images} report images. 95 % intervals over the seeds.\n\n"
        "| searches | evaluations of a sweep, in searches | of independent searches | accuracy, points | "
        "KL divergence, ratio |\n"
        "|---|---|---|---|---|\n"
        f"| {searches:g} | {sum(new) / options.seeds / options.episodes:.2f} | {searches:g} | {points.mean:+.2f} "
        f"({points.low:+.2f} to {points.high:+.2f}) | {np.exp(ratios.mean):.2f} ({np.exp(ratios.low):.2f} to "
        f"{np.exp(ratios.high):.2f}) |\n"
    )
    versions = describe_environment(seed=0, device="cpu")["packages"]
    print(f"Made with `python {shlex.join(sys.argv)}`; one thread.", end=" ")
    print(f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items() if version)}.")


if __name__ == "__main__":
    main()
