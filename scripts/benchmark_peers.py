"""Bits that other tools choose for the memory of weights: by their own quantizers, and through haq's evaluator.

Sony's model-compression-toolkit solves an integer program over the sensitivities of layers, NVIDIA's modelopt a linear
one over gradient scores. Both get the same trained network, calibration images and budget: an average of bits over all
weights, with 8-bit activations; first and last layer are chosen like the others. Accuracies are of the report split.
Layers are not merged (`linear_collapsing`, `residual_collapsing`), so that bits are those of the network's own layers.
The tools are no dependencies of haq and want an environment of their own:

    pip install model-compression-toolkit nvidia-modelopt requests huggingface_hub .
    OMP_NUM_THREADS=1 python scripts/benchmark_peers.py digits_cnn
    OMP_NUM_THREADS=1 python scripts/benchmark_peers.py cifar_resnet20 --weights FILE --data cifar10:DIR \\
        --report-images 2000

Writes a table, OUT/NETWORK.md, and a policy file for each row.
"""

import argparse
import logging
import os
import re
import shlex
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.cache import write_atomically
from haq.config import search_config
from haq.environment import describe_environment
from haq.evaluation.evaluator import Evaluator
from haq.policy import LayerBits, Policy
from haq.problem import Network, prepare_network
from haq.tasks.base import Batch

BUDGETS = (4.0, 3.0, 2.5, 2.25)
CHOICES = ((2, 4, 8), (2, 3, 4, 5, 6, 7, 8))
ACTIVATION_BITS = 8
BATCH = 32
PACKAGES = ("model-compression-toolkit", "nvidia-modelopt", "PuLP", "haq", "torch", "numpy")
COLUMNS = ("chosen by", "from", "budget", "average bits", "their own quantizer", "haq's, as is", "haq's, corrected")


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What a peer gets: a network that it may change, labelled calibration images, average bits, and widths."""

    model: nn.Module
    batches: Sequence[Batch]
    weights: int
    average: float
    choices: Sequence[int]


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """What it gives: its quantized network, and the weight bits of the modules by name."""

    model: nn.Module
    w_bits: dict[str, int]


def mct(given: Given) -> Chosen:
    """Sony's model-compression-toolkit, on its own target `imx500` with other widths where they are asked for."""
    import model_compression_toolkit as toolkit
    from model_compression_toolkit.target_platform_capabilities.constants import KERNEL_ATTR, WEIGHTS_N_BITS
    from model_compression_toolkit.target_platform_capabilities.tpc_models.imx500_tpc.v1_0 import tpc

    base, _, default = tpc.get_op_quantization_configs()
    widths = [
        base.clone_and_edit(attr_to_edit={KERNEL_ATTR: {WEIGHTS_N_BITS: bits}})
        for bits in sorted(given.choices, reverse=True)
    ]
    target = tpc.generate_tpc(default_config=default, base_config=base, mixed_precision_cfg_list=widths, name="widths")
    core = toolkit.core.CoreConfig(
        quantization_config=toolkit.core.QuantizationConfig(linear_collapsing=False, residual_collapsing=False),
        mixed_precision_config=toolkit.core.MixedPrecisionQuantizationConfig(),
    )

    def images() -> Iterator[list[Tensor]]:
        for inputs, _ in given.batches:
            yield [inputs]

    with torch.enable_grad():
        model, _ = toolkit.ptq.pytorch_post_training_quantization(
            given.model,
            images,
            target_resource_utilization=toolkit.core.ResourceUtilization(
                weights_memory=given.weights * given.average / 8
            ),
            core_config=core,
            target_platform_capabilities=target,
        )
    # A module is called as in the original, with underscores, and with `_bn` where a batch norm was folded into it.
    found = {
        name.removesuffix("_bn"): quantizer.num_bits
        for name, module in model.named_modules()
        for quantizer in getattr(module, "weights_quantizers", {}).values()
    }
    names = [name for name, _ in given.model.named_modules()]
    return Chosen(model, {name: found[name.replace(".", "_")] for name in names if name.replace(".", "_") in found})


def modelopt(given: Given) -> Chosen:
    """NVIDIA's modelopt, scoring layers by gradients; weights per channel, both by the largest value."""
    import modelopt.torch.quantization as toolkit

    def quantizers(bits: int) -> dict[str, Any]:
        return {
            "quant_cfg": [
                {"quantizer_name": "*", "enable": False},
                {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": bits, "axis": 0}},
                {"quantizer_name": "*input_quantizer", "cfg": {"num_bits": ACTIVATION_BITS, "axis": None}},
            ],
            "algorithm": "max",
        }

    with torch.enable_grad():
        model, _ = toolkit.auto_quantize(
            given.model,
            constraints={"effective_bits": given.average},
            quantization_formats=[quantizers(bits) for bits in given.choices],
            data_loader=given.batches,
            forward_step=lambda model, batch: model(batch[0]),
            loss_func=lambda outputs, batch: F.cross_entropy(outputs, batch[1]),
            num_calib_steps=len(given.batches),
            num_score_steps=len(given.batches),
            disabled_layers=[],
        )
    found = {
        name: module.weight_quantizer.num_bits if module.weight_quantizer.is_enabled else 32
        for name, module in model.named_modules()
        if hasattr(module, "weight_quantizer")
    }
    return Chosen(model, found)


PEERS: dict[str, Callable[[Given], Chosen]] = {"mct": mct, "modelopt": modelopt}


class Bench:
    """One network, in haq's evaluator with and without corrections, and the rows so far."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        settings = {name: getattr(arguments, name) for name in ("model", "data", "weights", "report_images")}
        self.out: Path = arguments.out
        self.networks = [prepare_network(search_config(**settings, corrections=each)) for each in ("none", "auto")]
        self.evaluators = [Evaluator(network.engine, network.task, "report") for network in self.networks]
        self.rows: list[str] = []

    @property
    def network(self) -> Network:
        """The one without corrections."""
        return self.networks[0]

    def given(self, average: float, choices: Sequence[int]) -> Given:
        """The input of a peer."""
        batches = list(self.network.task.batches("calibration", batch_size=BATCH))
        weights = sum(layer.weight_count for layer in self.network.priced.trace.layers)
        return Given(deepcopy(self.network.priced.model).eval(), batches, weights, average, choices)

    def run(self, peer: str, average: float, choices: Sequence[int]) -> None:
        """Let a peer choose, evaluate its choice, and write the table again."""
        given, start = self.given(average, choices), cpu_seconds()
        chosen = PEERS[peer](given)
        seconds = cpu_seconds() - start
        layers = self.network.priced.trace.layers
        w_bits = [chosen.w_bits[layer.tied_to or layer.name] for layer in layers]
        self.save(f"{peer}-{min(choices)}to{max(choices)}-{len(choices)}widths-{average:g}", w_bits)
        own = f"{100 * self.accuracy(chosen.model):.2f}"
        self.add([peer, widths(choices), f"{average:g}"], w_bits, own=own, seconds=f"{seconds:.0f}")

    def add(self, head: Sequence[str], w_bits: Sequence[int], *, own: str = "-", seconds: str = "-") -> None:
        """One more row, with haq's accuracies of these bits."""
        layers = self.network.priced.trace.layers
        total = sum(layer.weight_count for layer in layers)
        bits = sum(layer.weight_count * width for layer, width in zip(layers, w_bits, strict=True)) / total
        scores = [each.evaluate(w_bits, [ACTIVATION_BITS] * len(layers)).accuracy for each in self.evaluators]
        cells = [*head, f"{bits:.2f}", own, *(f"{100 * score:.2f}" for score in scores), seconds]
        self.rows.append(f"| {' | '.join(cells)} |")
        self.write()

    @torch.no_grad()
    def accuracy(self, model: nn.Module) -> float:
        """Of a peer's network on the report split."""
        metric = self.network.task.metric()
        for inputs, targets in self.network.task.batches("report", batch_size=256):
            metric.update(model.eval()(inputs), targets)
        return metric.compute()

    def save(self, name: str, w_bits: Sequence[int]) -> None:
        """The bits as a policy file."""
        priced = self.network.priced
        layers = tuple(
            LayerBits(name=layer.name, kind=layer.kind, w_bits=bits, a_bits=ACTIVATION_BITS)
            for layer, bits in zip(priced.trace.layers, w_bits, strict=True)
        )
        Policy(model=priced.name, hardware=None, objective="size", layers=layers).save(
            self.out / f"{priced.name}-{name}.json"
        )

    def write(self) -> None:
        """The whole table."""
        priced, floats = self.network.priced, self.evaluators[0].accuracy_fp32
        weights = sum(layer.weight_count for layer in priced.trace.layers)
        versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        processor = describe_environment(seed=0, device="cpu")["processor"]
        lines = [
            f"# Bits chosen by other tools: {priced.name}\n",
            f"{len(priced.trace.layers)} layers, {weights:,} weights, 8-bit activations; accuracy in percent on "
            f"{self.network.task.size('report'):,} report images, float {100 * floats:.2f}. CPU-seconds are the "
            "peer's, from the trained network to its quantized one.\n",
            f"| {' | '.join((*COLUMNS, 'CPU-s'))} |",
            "|---" * (len(COLUMNS) + 1) + "|",
            *self.rows,
            f"\nMade with `{command()}` on {processor}, {torch.get_num_threads()} thread(s); {versions}.\n",
        ]
        write_atomically(self.out / f"{priced.name}.md", "\n".join(lines).encode())


def widths(choices: Sequence[int]) -> str:
    """A set of widths in words."""
    is_range = len(choices) > 2 and list(choices) == list(range(choices[0], choices[-1] + 1))
    return f"{choices[0]} to {choices[-1]}" if is_range else ", ".join(str(bits) for bits in choices)


def command() -> str:
    """How this was called; of absolute paths the last part."""
    words = [re.sub(r"(^|:)/.*/", r"\1", word) for word in sys.argv[1:]]
    return shlex.join(["python", "scripts/benchmark_peers.py", *words])


def cpu_seconds() -> float:
    """Of this process and of the solvers that it started."""
    return sum(os.times()[:4])


def main() -> None:
    """Every peer, set of widths and budget; then the same bits in all layers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="digits_cnn, cifar_resnet20 or any other that haq knows")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--weights")
    parser.add_argument("--report-images", type=int)
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS))
    parser.add_argument("--out", type=Path, default=Path("results/peers"))
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    arguments.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments)
    for bits in (8, 4, 3, 2):
        bench.add(["the same everywhere", str(bits), "-"], [bits] * len(bench.network.priced.trace.layers))
    for choices in CHOICES:
        for peer in arguments.peers:
            for average in BUDGETS:
                bench.run(peer, average, choices)


if __name__ == "__main__":
    main()
