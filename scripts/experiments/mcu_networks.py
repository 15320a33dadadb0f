"""Whole exported networks on the emulated Cortex-M7: instructions, flash and memory, and what the device says of them.

    python scripts/experiments/mcu_networks.py --weights FILE --data cifar10:DIR > results/mcu/networks.md

FILE are the weights of ResNet-8. All layers have the same bits. One input is run.
"""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import replace

from haq.config import SearchConfig, search_config
from haq.execution.structures import tensors
from haq.experiment.artifact import load_artifact
from haq.experiment.loading import load_traced
from haq.exporters.c.measurement.instructions import run_network
from haq.exporters.c.program import make_program
from haq.exporters.c.runnable import in_memory_order, runnable_sources
from haq.exporters.c.toolchain import CortexM7, compiler_version, host_run
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.integer.lowering import integer_network
from haq.exporters.integer.network import IntegerNetwork, Product
from haq.exporters.integer.reference import quantize
from haq.layer_bits import LayerBits
from haq.policy import Policy
from hardware_sim.catalog import load_accelerator

DEVICE = "mcu-cortex-m7-measured"
WIDTHS = ((8, 8), (4, 8), (4, 4), (2, 2))
HEADER = (
    "| network | weights/inputs | instructions | of them layers | device says | difference | flash | RAM | codes |",
    "|---|---|---|---|---|---|---|---|---|",
)


def settings(weights: str, data: str) -> Mapping[str, SearchConfig]:
    few = {"calibration_images": 64, "search_images": 100, "report_images": 100}
    resnet = {"model": "resnet8", "weights": weights, "data": data, "search_from": "train", **few}
    return {"digits_cnn": search_config(), "resnet8": search_config(**resnet)}


def rows(name: str, config: SearchConfig) -> Iterator[str]:
    layers = load_traced(config).layers
    table = load_accelerator(DEVICE).table(layers)
    first: Deployable | None = None
    for w_bits, a_bits in WIDTHS:
        chosen = tuple(LayerBits(name=one.name, kind=one.kind, w_bits=w_bits, a_bits=a_bits) for one in layers)
        policy = Policy(model=config.model, hardware=None, objective=None, layers=chosen)
        artifact = load_artifact(policy, config)
        first = make_deployable(artifact) if first is None else first
        network = replace(first, artifact=artifact)
        latency_s = table.policy_cost([w_bits] * len(layers), [a_bits] * len(layers)).latency_s
        assert latency_s is not None
        yield row(f"{name} | {w_bits}/{a_bits}", network, latency_s * 480e6)


def row(label: str, network: Deployable, predicted: float) -> str:
    integers = integer_network(network, network.bits)
    (example,) = tensors(network.example)
    codes = in_memory_order(quantize(integers, example.numpy()))
    run = run_network(integers, codes, CortexM7())
    program = make_program(integers)
    is_equal = run.output == host_run(runnable_sources(program.source, program.header), codes)
    total, products = sum(run.instructions.values()), product_instructions(integers, run.instructions)
    size = run.objects["net.c"]
    ram = size.data + size.bss + run.stack_bytes
    cells = (
        label,
        f"{total / 1e6:.2f} M",
        f"{100 * products / total:.1f} %",
        f"{predicted / 1e6:.2f} M",
        f"{100 * (predicted / products - 1):+.1f} %",
        f"{(size.text + size.data) / 1024:.1f} KiB",
        f"{ram / 1024:.1f} KiB",
        "equal" if is_equal else "DIFFER",
    )
    return f"| {' | '.join(cells)} |"


def product_instructions(network: IntegerNetwork, instructions: Mapping[str, int]) -> int:
    """Instructions of convolutions and matrix products."""
    numbers = [at for at, operation in enumerate(network.operations) if isinstance(operation, Product)]
    return sum(sum(n for name, n in instructions.items() if name.split("_")[0] == f"op{at}") for at in numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--data", required=True)
    arguments = parser.parse_args()
    print("# Whole exported networks on the emulated Cortex-M7\n")
    print(f"One input, all layers at the same bits, {compiler_version()}.\n")
    print("\n".join(HEADER), flush=True)
    for name, config in settings(arguments.weights, arguments.data).items():
        for line in rows(name, config):
            print(line, flush=True)


if __name__ == "__main__":
    main()
