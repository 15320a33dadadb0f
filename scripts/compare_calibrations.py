"""Which calibration keeps most accuracy at each width: the measurement behind `--calibration auto`.

The digits network, trained from several seeds, at uniform widths with first and last layer at 8 bits and every policy
corrected as in a search; on the search split, so that the choice does not touch the report split. Prints Markdown.

    python scripts/compare_calibrations.py > results/calibration.md
"""

from statistics import mean, stdev

from haq.config import search_config
from haq.environment import describe_environment
from haq.evaluation import Evaluation, Evaluator
from haq.models.digits_training import train_digits
from haq.problem import prepare
from haq.quantizers.calibration import CALIBRATION_METHODS, CalibrationMethod

SEEDS = range(5)
WIDTHS = (8, 6, 5, 4, 3, 2)


def evaluations(seed: int, method: CalibrationMethod) -> list[Evaluation]:
    """What one trained network, calibrated by one method, is worth at every width; weights and activations alike."""
    config = search_config(model="DigitsCNN", calibration=method)
    problem = prepare(config, model=train_digits(seed=seed))
    evaluator = Evaluator(problem.network.engine, problem.task, "search")
    inner = len(problem.priced.trace.layers) - 2
    return [evaluator.evaluate(bits, bits) for bits in ([8, *[width] * inner, 8] for width in WIDTHS)]


def main() -> None:
    """Measure and print."""
    print("# Calibration methods on the digits network\n")
    print("Search accuracy in percent (359 images; mean ± standard deviation over the trainings), and the mean KL")
    print(f"divergence of the outputs from the float network's in nats; seeds {', '.join(map(str, SEEDS))}.\n")
    print("| method | " + " | ".join(f"{width}/{width} bits" for width in WIDTHS) + " |")
    print("|---" * (len(WIDTHS) + 1) + "|")
    for method in CALIBRATION_METHODS:
        found = zip(*(evaluations(seed, method) for seed in SEEDS), strict=True)
        print(f"| {method} | " + " | ".join(_cell(each) for each in found) + " |")
    packages = describe_environment(seed=0, device="cpu")["packages"]
    print(
        "\nMade with `python scripts/compare_calibrations.py`; "
        + ", ".join(f"{k} {v}" for k, v in packages.items() if v)
    )


def _cell(found: tuple[Evaluation, ...]) -> str:
    points = [100 * each.accuracy for each in found]
    return f"{mean(points):.2f} ± {stdev(points):.2f}, {mean(each.divergence for each in found):.4f}"


if __name__ == "__main__":
    main()
