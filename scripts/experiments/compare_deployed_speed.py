"""Time exported ONNX files in onnxruntime: the float network, uniform 8 bits and searched policies.

    PYTHONPATH=scripts/experiments python scripts/experiments/compare_deployed_speed.py --data DIR --weights DIR \\
        resnet20=results/networks/cifar_resnet20-bismo-edge-4bits/policy.json

Takes the networks of `deploy_networks.py`, and runs the graphs of a network in turn on the same images in one thread.
Prints a table with the median of the ratios of processor times, float to others, and their quartiles.
"""

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from time import process_time

import numpy as np
import onnxruntime as ort
from deploy_networks import CASES, case_config, policies, policy_layers

from haq.evaluation.chunks import chunk_size
from haq.evaluation.engines.onnxruntime import lower, open_session
from haq.evaluation.engines.onnxruntime.sessions import run_session
from haq.execution.structures import Structure, item_count, take
from haq.experiment.artifact import load_artifact
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.formats import ExportOptions
from haq.exporters.onnx import OnnxExporter
from haq.policy import load_policy

UNIFORM = "w8a8"


def times(graphs: Mapping[str, bytes], inputs: Structure, *, rounds: int) -> dict[str, list[float]]:
    """Return the processor times in seconds of each graph, run in turn; the order of the graphs turns too."""
    sessions = {name: open_session(graph, threads=1) for name, graph in graphs.items()}
    found: dict[str, list[float]] = {name: [] for name in graphs}
    names = list(graphs)
    for turn in range(rounds + 1):
        for name in (*names[turn % len(names) :], *names[: turn % len(names)]):
            began = process_time()
            run_session(sessions[name], inputs)
            if turn:  # the first runs allocate memory
                found[name].append(process_time() - began)
    return found


def graphs_of(name: str, searched: Path, data: Path, weights: Path) -> tuple[dict[str, bytes], Structure]:
    """Return the graphs of a network, and inputs for them."""
    config = case_config(CASES[name], data, weights)
    labelled = dict(policies(policy_layers(config), config.model))
    chosen = {UNIFORM: labelled[UNIFORM], "searched": load_policy(searched)}
    networks = {label: make_deployable(load_artifact(policy, config)) for label, policy in chosen.items()}
    first = networks[UNIFORM]
    graphs = {"float": _float_graph(first)}
    graphs |= {label: OnnxExporter().build(network, ExportOptions()).main for label, network in networks.items()}
    inputs = first.check_inputs()
    return graphs, take(inputs, slice(chunk_size(inputs)))


def _float_graph(network: Deployable) -> bytes:
    floats = (None,) * len(network.policy.layers)
    return bytes(lower(network.template, network.quantizers, (floats, floats)).SerializeToString())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="+", metavar="NETWORK=POLICY", help="searched policies of networks")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--weights", type=Path, default=Path("weights"))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    print(f"onnxruntime {ort.__version__}, one thread; load of {os.cpu_count()} cores: {os.getloadavg()[0]:.1f}\n")
    print("| network, batch | repetition | w8a8 | searched |\n| --- | --- | --- | --- |")
    for each in arguments.policies:
        name, _, searched = each.partition("=")
        graphs, inputs = graphs_of(name, Path(searched), arguments.data, arguments.weights)
        for repetition in range(arguments.repetitions):
            found = times(graphs, inputs, rounds=arguments.rounds)
            cells = [_ratios(found["float"], found[label]) for label in (UNIFORM, "searched")]
            print(f"| {name}, {item_count(inputs)} | {repetition + 1} | {' | '.join(cells)} |", flush=True)


def _ratios(reference: list[float], found: list[float]) -> str:
    low, middle, high = np.quantile(np.divide(reference, found), (0.25, 0.5, 0.75))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
