"""Compare symmetric codes of weights with those that use the lowest code too, at 2 and 3 bits.

Uniform bits with first and last layer at 8 bits, weights rounded by GPTQ: relative output error and accuracy on the
search split. The digits network is trained from several seeds; other networks have their own weights. Prints Markdown.

    python scripts/experiments/compare_weight_ranges.py --cifar10 DIR --resnet20 WEIGHTS > results/weight_ranges.md
"""

import argparse
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from statistics import mean

from torch import nn

from haq.config import search_config
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation
from haq.experiment.preparation import prepare_network
from haq.network.models.digits_training import train_digits
from haq.quantization import range as ranges
from haq.runs.environment import describe_environment

SEEDS = range(5)
WIDTHS = ((2, 8), (2, 4), (3, 8), (3, 3))
FULL_BITS = (0, 3)
"""Largest width whose lowest code is used: for none, and as `haq` does."""


@dataclass(frozen=True)
class Row:
    """A network and pair of widths, with evaluations by FULL_BITS and training."""

    network: str
    widths: tuple[int, int]
    evaluations: list[list[Evaluation]]

    def __str__(self) -> str:
        """Return the row of the table."""
        before, after = self.evaluations
        ratio = exp(mean(log(new.noise / old.noise) for old, new in zip(before, after, strict=True)))
        cells = [f"{mean(each.noise for each in found):.4f}" for found in self.evaluations]
        cells += [f"{100 * mean(each.accuracy for each in found):.2f}" for found in self.evaluations]
        w, a = self.widths
        return f"| {self.network} | {w}/{a} | {cells[0]} | {cells[1]} | {ratio:.2f} | {cells[2]} | {cells[3]} |"


def evaluations(full_bits: int, trained: nn.Module | None, **settings: str | int) -> list[Evaluation]:
    """Evaluate all pairs of widths with one rule for the codes."""
    ranges._FULL_BITS = full_bits  # no setting of haq, since the files of a run would not tell which rule they follow
    network = prepare_network(search_config(engine="torch", **settings), model=trained)
    evaluator = Evaluator(network.engine, network.task, "search")
    inner = len(network.priced.layers) - 2
    return [evaluator.evaluate([8, *[w] * inner, 8], [8, *[a] * inner, 8]) for w, a in WIDTHS]


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Yield the rows of the table."""
    trained = [train_digits(seed=seed) for seed in SEEDS]
    yield from _rows(f"digits, {len(trained)} trainings", [({}, model) for model in trained])
    if options.resnet20:
        settings = {"model": "cifar_resnet20", "weights": str(options.resnet20), "data": f"cifar10:{options.cifar10}"}
        yield from _rows("ResNet-20", [({**settings, "search_from": "train", "search_images": 1000}, None)])


def _rows(name: str, networks: list[tuple[dict[str, str | int], nn.Module | None]]) -> Iterator[Row]:
    found = [[evaluations(bits, model, **settings) for settings, model in networks] for bits in FULL_BITS]
    for place, widths in enumerate(WIDTHS):
        yield Row(name, widths, [[each[place] for each in of_rule] for of_rule in found])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar10", type=Path, help="folder of CIFAR-10")
    parser.add_argument("--resnet20", type=Path, help="weights of ResNet-20")
    options = parser.parse_args()
    print("# Codes of weights at 2 and 3 bits\n")
    print(
        "Symmetric codes (-1 to 1, -3 to 3) and all codes (-2 to 1, -4 to 3), rounded by GPTQ. Means of relative output"
    )
    print("error and accuracy in percent on the search split, and the geometric mean of the ratios of errors.\n")
    print(
        "| network | bits | error, symmetric | error, all codes | ratio | accuracy, symmetric | accuracy, all codes |"
    )
    print("|---|---|---|---|---|---|---|")
    for row in rows(options):
        print(row, flush=True)
    environment = describe_environment(seed=0, device="cpu")
    versions = ", ".join(f"{name} {version}" for name, version in environment["packages"].items() if version)
    print(f"\nMade with `python scripts/experiments/compare_weight_ranges.py {shlex.join(sys.argv[1:])}`; {versions}.")


if __name__ == "__main__":
    main()
