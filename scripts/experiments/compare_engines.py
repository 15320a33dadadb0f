"""Compare the onnxruntime engine (integers) with the torch engine (fake quantization), per layer and end to end.

    python scripts/experiments/compare_engines.py --data imagefolder:DIR > results/engine_agreement.md

Runs trained networks on calibration images: digits_cnn, a MobileNet trained here on the digits, and with --data the
two MobileNets of `tf_mobilenets` with their published weights. Prints Markdown.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import tf_mobilenets
import torch
from digits_mobilenet import train
from torch import Tensor, nn

from haq.evaluation.chunks import chunk_size
from haq.evaluation.engines.agreement import TIE
from haq.evaluation.engines.comparison import LAYER_VALUES, EnginePair
from haq.evaluation.engines.moved_codes import MovedCodes
from haq.evaluation.engines.onnxruntime import OnnxEngine
from haq.evaluation.engines.torch import TorchEngine
from haq.experiment.preparation import CORRECTION_IMAGES
from haq.network.layers import trace
from haq.network.models.digits_training import train_digits
from haq.policy import PolicyBits
from haq.quantization.options import QuantizerOptions
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.runs.environment import describe_environment
from haq.tasks import TaskOptions, load_task

MOVED_AT_START = 10
"""Input codes of the second layer that are moved, over all images together."""
HEADER = (
    "policy",
    "codes compared",
    "differ, exact biases",
    "differ, the graph's biases",
    "farthest tie, steps",
    "predictions changed by quantization",
    "by onnxruntime",
    "by moved codes",
    f"by {MOVED_AT_START} moved codes",
    "outputs changed by onnxruntime",
    "by moved codes",
    f"by {MOVED_AT_START} moved codes",
    "onnxruntime / moved codes",
)
INTRODUCTION = f"""# Differences between the engines

The same policies in onnxruntime's integers and in torch's fake quantization, on trained networks and the images that
they were calibrated on. *Codes* are those of all layers' inputs, each computed by both engines from the same input of
the layer before. An integer kernel rounds a bias to whole steps of its accumulator, torch does not: codes *differ,
exact biases*. Where torch is given the biases of the graph, what is left are ties: values within {TIE} of a step
(*farthest*: the largest distance found) of the border between two codes.

End to end each engine finds its own corrections. *Moved codes* is torch once more, with the graph's biases and as many
codes moved by a step at random as differed as ties, and one more in every layer; *{MOVED_AT_START} moved codes* moves
so many of the second layer's, on all images together, and nothing else. Differences of outputs are divided by
the change that quantization itself causes."""


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A network's engines and images."""

    name: str
    engines: EnginePair
    images: Tensor


def build(name: str, model: nn.Module, images: Tensor) -> Case:
    """Calibrate on all images; corrections are computed from the first of them."""
    traced = trace(model, images[:1])
    quantizers = Quantizers(model, traced, lambda: [images], QuantizerOptions(rounding="gptq"))
    quantized = QuantizedModel(model, traced, quantizers)
    reference = TorchEngine(quantized, images[:CORRECTION_IMAGES])
    return Case(
        name, EnginePair(OnnxEngine(quantized, traced, images[:1], reference=reference), reference, traced), images
    )


def cases(data: str | None, count: int) -> Iterator[Case]:
    """Yield the networks, one after another."""
    digits = load_task("digits")
    images, _ = next(digits.batches("calibration", batch_size=256))
    yield build("digits_cnn", train_digits(), images)
    yield build("digits_mobilenet", train(digits, seed=0), images)
    if data is None:
        return
    makers: Mapping[str, Callable[[], nn.Module]] = {
        "tf_mobilenets:mobilenet_v1_075": tf_mobilenets.mobilenet_v1_075,
        "tf_mobilenets:mobilenet_v2": tf_mobilenets.mobilenet_v2,
    }
    for name, make in makers.items():
        model = make()
        task = load_task(data, model=model, options=TaskOptions(normalize="half"))
        yield build(name, model, next(task.batches("calibration", batch_size=count))[0])


def policies(layers: int) -> dict[str, PolicyBits]:
    """Return uniform policies, and two with random widths: 4 to 8 bits, and 2 to 8 bits."""
    uniform = {f"uniform {width}": ((width,) * layers, (width,) * layers) for width in (8, 4, 2)}
    generator = np.random.default_rng(0)
    mixed = {}
    for low in (4, 2):
        w_bits, a_bits = generator.integers(low, 9, (2, layers)).tolist()
        mixed[f"mixed {low} to 8"] = (tuple(w_bits), tuple(a_bits))
    return {**uniform, **mixed}


@torch.no_grad()
def row(case: Case, name: str, bits: PolicyBits) -> list[str]:
    """Return the cells of one policy."""
    engines, images = case.engines, case.images
    few = images[: chunk_size(images, LAYER_VALUES)]
    corrections = engines.reference.corrections(bits)
    segments = engines.onnxruntime.segments(bits, corrections)
    exact, _ = engines.compare_segments(segments, bits, corrections, few)
    layers, shares = engines.compare_segments(segments, bits, segments.corrections, few)
    if layers.beyond:
        print(f"{case.name}, {name}: {layers}", file=sys.stderr)
    expected = engines.reference.corrected(bits, corrections)(images)
    floats = engines.reference.runner(None)(images)
    found = {
        "onnxruntime": engines.onnxruntime.runner(bits)(images),
        "moved": engines.moved(bits, shares)(images),
        "few": few_moved(case, bits)(images),
    }
    changed = {key: int((each.argmax(1) != expected.argmax(1)).sum()) for key, each in found.items()}
    change = (expected - floats).norm()
    parts = {key: float((each - expected).norm() / change) for key, each in found.items()}
    quantization = int((floats.argmax(1) != expected.argmax(1)).sum())
    return [
        name,
        f"{layers.codes}",
        f"{exact.differing}",
        f"{layers.differing}",
        f"{layers.farthest:.1g}",
        f"{quantization} of {len(images)}",
        *(str(each) for each in changed.values()),
        *(f"{each:.3f}" for each in parts.values()),
        f"{parts['onnxruntime'] / max(parts['moved'], 1e-9):.2f}",
    ]


def few_moved(case: Case, bits: PolicyBits) -> Callable[[Tensor], Tensor]:
    """Return the torch engine with the same corrections and a few input codes of the second layer moved by one step."""
    engines = case.engines
    codes = engines.trace.layers[1].input_count * len(case.images)
    model = MovedCodes(
        engines.reference.quantized, engines.trace, shares={(1, "input"): MOVED_AT_START / codes}, seed=0
    )
    return TorchEngine(model).corrected(bits, engines.reference.corrections(bits))


def main() -> None:
    """Print a table for each network, and the versions."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="imagefolder:DIR", help="ImageNet images, for MobileNet-V1 and V2")
    parser.add_argument("--images", type=int, default=32, metavar="N", help="of them (default: 32)")
    arguments = parser.parse_args()
    print(INTRODUCTION)
    for case in cases(arguments.data, arguments.images):
        print(f"\n## {case.name}, {len(case.engines.trace.layers)} layers, {len(case.images)} images\n")
        print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
        for name, bits in policies(len(case.engines.trace.layers)).items():
            print(f"| {' | '.join(row(case, name, bits))} |", flush=True)
    packages = describe_environment(seed=0, device="cpu")["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    print(f"\nMade with `python {' '.join(sys.argv)}`, seed 0, {torch.get_num_threads()} thread; {versions}.")


if __name__ == "__main__":
    main()
