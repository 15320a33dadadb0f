"""Accuracy or closeness to the float network as reward: which says more about accuracy on images never searched on?

For random policies within a budget, the rank correlation of what a search can see, on its search split, with accuracy
on the report split. Policies are drawn by random walks under the budget rule.

    PYTHONPATH=scripts python scripts/compare_rewards.py --data DIR --weights DIR > results/rewards.md
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from agents import RandomSearch
from envs.bit_allocation import BitAllocationEnv
from haq.config import search_config
from haq.environment import describe_environment
from haq.evaluation.evaluator import Evaluator
from haq.problem import prepare, prepare_network


def cases(data: Path, weights: Path) -> dict[str, dict[str, Any]]:
    """Settings by the name of the network."""
    cifar = {"data": f"cifar10:{data}/cifar10", "search_from": "train", "search_images": 1000}
    return {
        "digits_cnn": {},
        "cifar_resnet20": {**cifar, "weights": str(weights / "cifar10jpeg_resnet20_ft3ep.pth")},
        "small_networks:depthwise_silu": {**cifar, "weights": str(weights / "depthwise_silu.safetensors")},
    }


def correlations(settings: dict[str, Any], budget: str, *, policies: int, report_images: int | None) -> list[Any]:
    """Cells of a row: images, and the rank correlations of accuracy and of closeness with report accuracy."""
    config = search_config(**settings, budget=(budget,), report_images=report_images)
    problem = prepare(config, network=prepare_network(config))
    env = BitAllocationEnv(
        problem.priced.trace.layers, problem.priced.table, problem.limits, lambda _: 0.0, allowed=problem.allowed
    )
    agent = RandomSearch(seed=0)
    search, report = (
        Evaluator(problem.network.engine, problem.task, split, batch_size=config.eval_batch)
        for split in ("search", "report")
    )
    rows = []
    for _ in range(policies):
        decided = env.walk.go(lambda observed: np.array([agent.act(observed[0])])).bits[0]
        bits = env.choice.expand(decided).T.tolist()
        seen = search.evaluate(*bits)
        rows.append((seen.accuracy, -seen.divergence, report.evaluate(*bits).accuracy))
    accuracy, closeness, truth = np.array(rows).T
    images = f"{problem.task.size('search')}, {problem.task.size('report')}"
    spread = f"{100 * truth.min():.1f} to {100 * truth.max():.1f}"
    return [images, spread, *(f"{spearmanr(each, truth).statistic:.2f}" for each in (accuracy, closeness))]


def main() -> None:
    """Print one row for each network and budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar10 as image folders")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--policies", type=int, default=50)
    parser.add_argument("--budgets", nargs="+", default=["3bits", "4bits"])
    parser.add_argument("--report-images", type=int, help="default: all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"# Rewards\n\nRank correlation (Spearman) with report accuracy, {options.policies} random policies a row,")
    print("bismo-edge, latency; what the search sees is measured on the search split.\n")
    print("| network | budget | images: search, report | report accuracy, % | accuracy | closeness |")
    print("|---|---|---|---|---|---|")
    for name, settings in cases(options.data, options.weights).items():
        images = None if name == "digits_cnn" else options.report_images
        for budget in options.budgets:
            cells = correlations({"model": name, **settings}, budget, policies=options.policies, report_images=images)
            print(f"| {name.rpartition(':')[2]} | {budget} | {' | '.join(cells)} |", flush=True)
    versions = describe_environment(seed=0, device="cpu")["packages"]
    print(f"\nMade with `python {shlex.join(sys.argv)}`; one thread.", end=" ")
    print(f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items() if version)}.")


if __name__ == "__main__":
    main()
