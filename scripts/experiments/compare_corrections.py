"""Measure the accuracy gained by corrections, by the number of images that they are computed from.

The digits network, trained from several seeds, at uniform bits with first and last layer at 8 bits; accuracy on the
search split. Prints Markdown.

    python scripts/experiments/compare_corrections.py > results/corrections.md
"""

import argparse
from statistics import mean, stdev

from haq.config import search_config
from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.evaluator import Evaluator
from haq.experiment.preparation import prepare
from haq.experiment.problem import Problem
from haq.network.models.digits_training import train_digits
from haq.quantization.quantized_model import QuantizedModel
from haq.runs.environment import describe_environment

SEEDS = range(5)
IMAGES = (0, 16, 32, 64, 128, 256)
WIDTHS = ((4, 4), (3, 3), (2, 8), (2, 2))


def accuracies(problem: Problem, images: int) -> list[float]:
    """Return the search accuracy at every pair of widths, with corrections from a number of calibration images."""
    network = problem.network
    quantized = QuantizedModel(network.priced.model, network.priced.trace, network.quantizers)
    shown = next(iter(problem.task.batches("calibration", batch_size=images)))[0] if images else None
    evaluator = Evaluator(TorchEngine(quantized, shown), problem.task, "search")
    inner = len(network.priced.layers) - 2
    return [evaluator.evaluate([8, *[w] * inner, 8], [8, *[a] * inner, 8]).accuracy for w, a in WIDTHS]


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    problems = [
        prepare(search_config(model="DigitsCNN", engine="torch"), model=train_digits(seed=seed)) for seed in SEEDS
    ]
    print("# Corrections on the digits network\n")
    print(
        "Search accuracy in percent (359 images; mean ± standard deviation over the trainings) by the number of images"
    )
    print(f"that batch norms are re-estimated and biases corrected on; seeds {', '.join(map(str, SEEDS))}.\n")
    print("| images | " + " | ".join(f"{w}/{a} bits" for w, a in WIDTHS) + " |")
    print("|---" * (len(WIDTHS) + 1) + "|")
    for images in IMAGES:
        found = zip(*(accuracies(problem, images) for problem in problems), strict=True)
        cells = [f"{100 * mean(each):.2f} ± {100 * stdev(each):.2f}" for each in found]
        print(f"| {images or 'none'} | " + " | ".join(cells) + " |")
    packages = describe_environment(seed=0, device="cpu")["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    print(f"\nMade with `python scripts/experiments/compare_corrections.py`; {versions}.")


if __name__ == "__main__":
    main()
