"""Compare GPTQ with rounding weights to the nearest integer by accuracy and time: the reason for `--rounding`.

One network at uniform weight bits, with 8 bits for activations and for the first and the last layer, every policy with
corrections as in a search; evaluated in integers by onnxruntime on the search split. Prints a section of Markdown;
takes the flags of `haq evaluate` for networks and data:

    python scripts/experiments/compare_rounding.py --seeds 3 > results/rounding.md
    python scripts/experiments/compare_rounding.py --model cifar_resnet20 --weights FILE --data cifar10:DIR \\
        >> results/rounding.md
"""

import sys
from statistics import mean, stdev
from time import perf_counter
from typing import Annotated, get_args

import typer

from haq.cli.flags import DATA_FLAGS, MODEL_FLAGS, with_config
from haq.config import SearchConfig, search_config
from haq.evaluation.engines.onnxruntime import OnnxEngine
from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation
from haq.experiment.preparation import prepare_network
from haq.experiment.problem import Network
from haq.network.models.digits_training import train_digits
from haq.quantization.quantized_model import QuantizedModel
from haq.runs.environment import describe_environment
from haq.settings import Rounding

A_BITS = END_BITS = 8

Row = list[tuple[Evaluation, float]]
"""By width: what it is worth, and the seconds that rounding all layers to it took."""


def prepared(config: SearchConfig, rounding: Rounding, seed: int) -> Network:
    """Return the network with a rounding method; the digits network is trained from the seed."""
    given = {key: getattr(config, key) for key in config.model_fields_set}
    chosen = search_config(**given, rounding=rounding, engine="torch")
    return prepare_network(chosen, model=train_digits(seed=seed) if config.model == "digits_cnn" else None)


def measure(network: Network, widths: list[int], *, batch: int) -> tuple[float, Row]:
    """Return the accuracy in float, and the evaluation at every width."""
    priced = network.priced
    quantized = QuantizedModel(priced.model, priced.trace, network.quantizers)
    assert isinstance(network.engine, TorchEngine)
    engine = OnnxEngine(quantized, priced.trace, network.task.example(), reference=network.engine)
    evaluator, count = Evaluator(engine, network.task, "search", batch_size=batch), len(priced.layers)
    row: Row = []
    for width in widths:
        w_bits = [END_BITS, *[width] * (count - 2), END_BITS]
        started = perf_counter()
        for layer, bits in enumerate(w_bits):
            network.quantizers.codes(layer, bits)
        taken_s = perf_counter() - started
        row.append((evaluator.evaluate(w_bits, [A_BITS] * count), taken_s))
        print(f"{width} bits: {row[-1]}", file=sys.stderr, flush=True)
    return evaluator.accuracy_fp32, row


@with_config(*MODEL_FLAGS, *DATA_FLAGS)
def main(
    config: SearchConfig,
    *,
    widths: Annotated[str, typer.Option(help="Bits of weights.")] = "4,3,2",
    seeds: Annotated[int, typer.Option(help="Trainings of digits_cnn.")] = 1,
) -> None:
    """Measure one network and print."""
    roundings: tuple[Rounding, ...] = get_args(Rounding)
    w_bits = [int(width) for width in widths.split(",")]
    found = {
        name: [measure(prepared(config, name, seed), w_bits, batch=config.eval_batch) for seed in range(seeds)]
        for name in roundings
    }
    images = prepared(config, "nearest", 0).task.size("search")
    floats = [accuracy for accuracy, _ in found["nearest"]]
    print(f"## {config.model}\n")
    print(f"Search accuracy in percent ({images} images) at so many bits of weights and {A_BITS} of activations, the")
    print("mean KL divergence from the float network's outputs in nats, and the seconds that rounding all layers took;")
    print(f"in float {_percent(floats)}; calibration on {config.calibration_images} images.\n")
    print("| rounding | " + " | ".join(f"{width}/{A_BITS} bits" for width in w_bits) + " |")
    print("|---" * (len(w_bits) + 1) + "|")
    for name, runs in found.items():
        print(f"| {name} | " + " | ".join(_cell(each) for each in zip(*(row for _, row in runs), strict=True)) + " |")
    packages = describe_environment(seed=0, device="cpu")["packages"]
    versions = ", ".join(f"{package} {version}" for package, version in packages.items() if version)
    print(f"\nMade with `python scripts/experiments/compare_rounding.py {' '.join(sys.argv[1:])}`; {versions}.\n")


def _cell(found: tuple[tuple[Evaluation, float], ...]) -> str:
    evaluations = [each for each, _ in found]
    divergence = mean(each.divergence for each in evaluations)
    return f"{_percent([each.accuracy for each in evaluations])}, {divergence:.4f}, {found[0][1]:.1f} s"


def _percent(accuracies: list[float]) -> str:
    points = [100 * each for each in accuracies]
    return f"{mean(points):.2f}" + (f" ± {stdev(points):.2f}" if len(points) > 1 else "")


if __name__ == "__main__":
    typer.run(main)
