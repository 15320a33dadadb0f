"""Compare calibration methods by the accuracy that they keep at each bit width.

The measurement behind the defaults of `--calibration auto` and `--zero-points`: the digits network, trained from
several seeds, at uniform bits with first and last layer at 8 bits, every policy with corrections as in a search.
Accuracies are of the search split, so that the choice does not touch the report split. Zero points are also compared
on the same networks fine-tuned with SiLU, whose outputs are skewed. Prints Markdown.

    python scripts/experiments/compare_calibrations.py > results/calibration.md
"""

import argparse
from collections.abc import Sequence
from copy import deepcopy
from statistics import mean, stdev

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from haq.config import search_config
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation
from haq.experiment.preparation import prepare
from haq.network.models.digits_training import train_digits
from haq.quantization.calibration import CALIBRATION_METHODS
from haq.runs.environment import describe_environment
from haq.settings import CalibrationMethod, ZeroPoints
from haq.tasks import load_task

SEEDS = range(5)
WIDTHS = (8, 6, 5, 4, 3, 2)
EPOCHS = 4


def evaluations(model: nn.Module, method: CalibrationMethod, zero_points: ZeroPoints = "auto") -> list[Evaluation]:
    """Evaluate a network calibrated by one method, in float and at every uniform width."""
    config = search_config(model=type(model).__name__, calibration=method, zero_points=zero_points)
    problem = prepare(config, model=model)
    evaluator = Evaluator(problem.network.engine, problem.task, "search")
    inner = len(problem.priced.layers) - 2
    uniform = [evaluator.evaluate(bits, bits) for bits in ([8, *[width] * inner, 8] for width in WIDTHS)]
    return [Evaluation(evaluator.accuracy_fp32, 0.0, 0.0), *uniform]


def with_silu(model: nn.Module, *, seed: int) -> nn.Module:
    """Return a copy of the network with SiLU in place of ReLU6, trained for a few more epochs."""
    changed, task, generator = deepcopy(model), load_task("digits"), torch.Generator().manual_seed(seed)
    for path, module in model.named_modules():
        if isinstance(module, nn.ReLU6):
            changed.set_submodule(path, nn.SiLU())
    optimizer = torch.optim.AdamW(changed.parameters(), lr=2e-3, weight_decay=0.01)
    changed.train()
    for _ in range(EPOCHS):
        for images, labels in task.shuffled("train", batch_size=64, generator=generator):
            optimizer.zero_grad()
            torch.autograd.backward(cross_entropy(changed(images), labels, label_smoothing=0.05))
            optimizer.step()
    return changed.eval()


def main() -> None:
    """Measure and print."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    models = [train_digits(seed=seed) for seed in SEEDS]
    print("# Calibration methods on the digits network\n")
    print("Search accuracy in percent (mean ± standard deviation over the trainings), and the mean KL divergence of")
    seeds = ", ".join(map(str, SEEDS))
    print(f"the outputs from the float network's in nats; trainings from seeds {seeds}. Only `mse`")
    print("finds zero points; linear bottlenecks and sums of residuals have them here.\n")
    rows: list[tuple[CalibrationMethod, ZeroPoints]] = [(method, "auto") for method in CALIBRATION_METHODS]
    _print_table(models, [*rows, ("mse", "none")])
    print(f"\nThe same networks with SiLU in place of ReLU6, after {EPOCHS} more epochs:\n")
    _print_table([with_silu(model, seed=seed) for seed, model in enumerate(models)], [("mse", "auto"), ("mse", "none")])
    packages = describe_environment(seed=0, device="cpu")["packages"]
    print(
        "\nMade with `python scripts/experiments/compare_calibrations.py`; "
        + ", ".join(f"{k} {v}" for k, v in packages.items() if v)
    )


def _print_table(models: Sequence[nn.Module], rows: Sequence[tuple[CalibrationMethod, ZeroPoints]]) -> None:
    print("| method | float | " + " | ".join(f"{width}/{width} bits" for width in WIDTHS) + " |")
    print("|---" * (len(WIDTHS) + 2) + "|")
    for method, zero_points in rows:
        found = zip(*(evaluations(model, method, zero_points) for model in models), strict=True)
        name = method if zero_points == "auto" else f"{method}, no zero points"
        print(f"| {name} | " + " | ".join(_cell(each) for each in found) + " |", flush=True)


def _cell(found: tuple[Evaluation, ...]) -> str:
    points = [100 * each.accuracy for each in found]
    return f"{mean(points):.2f} ± {stdev(points):.2f}, {mean(each.divergence for each in found):.4f}"


if __name__ == "__main__":
    main()
