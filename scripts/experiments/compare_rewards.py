"""Compare signals that a search could be rewarded for by how well they predict accuracy on other images.

Prints rank correlations, over policies within a budget, between accuracy on the report split and three signals on
images of the search split: accuracy, KL divergence from the float network's outputs, and relative output error, which
is the default. Half of the policies are drawn at random under the budget rule. The others resemble those near the end
of a search: uniform bits with up to eight random changes of one bit, brought under the budget.

    python scripts/experiments/compare_rewards.py --data DIR --weights DIR
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rank_agreement import rank_correlations
from torch import Tensor
from torch.nn.functional import kl_div

from agents import RandomSearch
from envs.bit_allocation import BitAllocationEnv
from envs.choices import IntArray
from haq.config import search_config
from haq.evaluation.evaluator import Evaluator
from haq.experiment.methods import search_space
from haq.experiment.preparation import prepare
from haq.experiment.problem import Problem
from haq.policy import PolicyBits
from haq.runs.environment import describe_environment

CHANGES = 8
DRAWS = 20
"""Draws where fewer than all images are used."""


def cases(data: Path, weights: Path) -> dict[str, dict[str, Any]]:
    """Return the settings of every network whose weights exist, by name."""
    cifar = {"data": f"cifar10:{data}/cifar10", "search_from": "train", "search_images": 1000}
    found: dict[str, dict[str, Any]] = {
        "digits_cnn": {},
        "cifar_resnet20": {**cifar, "weights": str(weights / "cifar10jpeg_resnet20_ft3ep.pth")},
        "digits_mobilenet:digits_mobilenet": {"weights": str(weights / "digits_mobilenet-s0.safetensors")},
        "depthwise_silu:depthwise_silu": {**cifar, "weights": str(weights / "depthwise_silu.safetensors")},
    }
    return {name: case for name, case in found.items() if "weights" not in case or Path(case["weights"]).exists()}


def random_policies(problem: Problem, count: int) -> Iterator[IntArray]:
    """Yield random policies [layer, 2]."""
    env = BitAllocationEnv(
        problem.priced.layers, problem.priced.table, problem.limits, lambda _: 0.0, allowed=problem.allowed
    )
    agent = RandomSearch(seed=0)
    for _ in range(count):
        yield env.choices.expand(env.rollouts.run(lambda observed: np.array([agent.act(observed[0])])).bits[0])


def near_uniform_policies(problem: Problem, bits: int, count: int) -> Iterator[IntArray]:
    """Yield policies [layer, 2] near uniform bits."""
    space, generator = search_space(problem.choice), np.random.default_rng(0)
    uniform = np.full((len(space.names), 2), bits)
    for _ in range(count):
        policy = uniform.copy()
        for _ in range(generator.integers(CHANGES + 1)):
            policy[generator.integers(len(policy)), generator.integers(2)] += generator.choice((-1, 1))
        yield problem.choice.expand(space.project(space.nearest(policy)))


@torch.no_grad()
def outputs(problem: Problem, bits: PolicyBits | None) -> tuple[Tensor, Tensor]:
    """Return logits [n, classes] on the search split, and the labels."""
    network = problem.network.engine.runner(bits)
    batches = problem.task.batches("search", batch_size=problem.config.eval_batch)
    found = [(network(inputs).double(), targets) for inputs, targets in batches]
    logits, targets = zip(*found, strict=True)
    return torch.cat(logits), torch.cat(targets)


def signals(logits: Tensor, reference: Tensor, targets: Tensor) -> Tensor:
    """Return the signals [signal, policy] of logits [policy, n, classes]."""
    right = (logits.argmax(dim=2) == targets).double()
    ours, theirs = logits.log_softmax(2), reference.log_softmax(1).expand_as(logits)
    divergence = kl_div(ours, theirs, reduction="none", log_target=True).sum(dim=2)
    noise = (logits - reference).var(dim=2)
    return torch.stack([each.mean(dim=1) for each in (right, -divergence, -noise)])


def correlations(problem: Problem, policies: list[IntArray], counts: tuple[int, ...]) -> Iterator[str]:
    """Yield the cells of a row: policies, range of report accuracies, and correlations by number of images."""
    reference, targets = outputs(problem, None)
    every = sorted({(tuple(bits[:, 0].tolist()), tuple(bits[:, 1].tolist())) for bits in policies})
    logits = torch.stack([outputs(problem, bits)[0] for bits in every])
    report = Evaluator(problem.network.engine, problem.task, "report", batch_size=problem.config.eval_batch)
    truth = np.array([report.evaluate(*bits).accuracy for bits in every])
    yield f"{len(every)}"
    yield f"{100 * truth.min():.1f} to {100 * truth.max():.1f}"
    generator = torch.Generator().manual_seed(0)
    for count in (*counts, len(targets)):
        found = []
        for _ in range(DRAWS if count < len(targets) else 1):
            some = torch.randperm(len(targets), generator=generator)[:count]
            seen = signals(logits[:, some], reference[some], targets[some]).numpy()
            found.append(rank_correlations(seen, np.broadcast_to(truth, seen.shape)))
        yield " / ".join(f"{each:.2f}" for each in np.mean(found, axis=0))


def main() -> None:
    """Print two rows for each network and budget."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="holds cifar10 as image folders")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--policies", type=int, default=50, help="of each kind")
    parser.add_argument("--bits", nargs="+", type=int, default=[3, 4], help="budgets: the cost of these everywhere")
    parser.add_argument("--images", nargs="+", type=int, default=[64, 256], help="besides all")
    parser.add_argument("--report-images", type=int, help="default: all")
    options = parser.parse_args()
    torch.set_num_threads(1)
    heads = [*(f"{count} images" for count in options.images), "all images"]
    print("| network | bits | policies | number | report accuracy, % | " + " | ".join(heads) + " |")
    print("|---" * (5 + len(heads)) + "|")
    for name, settings in cases(options.data, options.weights).items():
        images = options.report_images if "data" in settings else None
        for bits in options.bits:
            problem = prepare(search_config(model=name, **settings, budget=(f"{bits}bits",), report_images=images))
            kinds = {
                "random": random_policies(problem, options.policies),
                "near uniform": near_uniform_policies(problem, bits, options.policies),
            }
            for kind, policies in kinds.items():
                cells = [name.rpartition(":")[2], f"{bits}", kind]
                cells += correlations(problem, list(policies), tuple(options.images))
                print(f"| {' | '.join(cells)} |", flush=True)
    versions = describe_environment(seed=0, device="cpu")["packages"]
    print(f"\nMade with `python {shlex.join(sys.argv)}`; one thread.", end=" ")
    print(f"Versions: {', '.join(f'{name} {version}' for name, version in versions.items() if version)}.")


if __name__ == "__main__":
    main()
