"""Which calibration keeps most accuracy at each width: the measurement behind `--calibration auto`.

The digits network, trained from several seeds, at uniform widths with first and last layer at 8 bits; accuracy on the
search split, so that the choice does not touch the report split. Prints a Markdown table of means and spreads.

    python scripts/compare_calibrations.py > results/calibration.md
"""

from statistics import mean, stdev

from haq.evaluation import Evaluator, TorchEngine
from haq.layers import trace
from haq.models.digits_training import train_digits
from haq.quantized_model import QuantizedModel, Quantizers
from haq.quantizers.calibration import CALIBRATION_METHODS, CalibrationMethod
from haq.tasks import load_task
from haq.tasks.base import Task

SEEDS = range(5)
WIDTHS = (8, 6, 5, 4, 3, 2)


def accuracies(seed: int, task: Task, method: CalibrationMethod) -> list[tuple[float, float]]:
    """(accuracy, KL divergence) of one trained network, calibrated by one method, at every width."""
    model = train_digits(seed=seed)
    traced = trace(model, task.example())
    batches = lambda: (inputs for inputs, _ in task.batches("calibration", batch_size=256))  # noqa: E731
    quantizers = Quantizers(model, traced, batches, method=method)
    evaluator = Evaluator(TorchEngine(QuantizedModel(model, traced, quantizers)), task, "search")
    bits = [[8, *[width] * (len(traced.layers) - 2), 8] for width in WIDTHS]
    found = [evaluator.evaluate(each, each) for each in bits]
    return [(each.accuracy, each.divergence) for each in found]


def main() -> None:
    """Measure and print."""
    task = load_task("digits")
    print(f"Search accuracy in percent (mean, standard deviation over {len(SEEDS)} trainings) and KL divergence in nats\n")
    print("| method | " + " | ".join(f"{width}/{width} bits" for width in WIDTHS) + " |")
    print("|---" * (len(WIDTHS) + 1) + "|")
    for method in CALIBRATION_METHODS:
        runs = [accuracies(seed, task, method) for seed in SEEDS]
        cells = []
        for found in zip(*runs, strict=True):
            points = [100 * accuracy for accuracy, _ in found]
            divergence = mean(each for _, each in found)
            cells.append(f"{mean(points):.2f} ± {stdev(points):.2f}, {divergence:.3f}")
        print(f"| {method} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
