"""Speed of an exported graph in onnxruntime, relative to that of the float network."""

from statistics import median
from time import perf_counter, process_time

import onnxruntime as ort

from haq.evaluation.chunks import chunk_size
from haq.evaluation.engines.onnxruntime import lower, open_session
from haq.evaluation.engines.onnxruntime.sessions import run_session
from haq.execution.structures import Structure, item_count, take
from haq.exporters.deployable import Deployable

ROUNDS = 21
"""Largest number of pairs of runs."""
SECONDS = 1.0
"""Time after which no further pair is run."""


def speed_note(network: Deployable, graph: bytes) -> str:
    """Describe the speed of an exported graph relative to the float network, both in onnxruntime on this machine.

    Args:
        network: Network that was exported.
        graph: Serialized ONNX model.

    Returns:
        One line with the ratio.
    """
    inputs = network.check_inputs()
    inputs = take(inputs, slice(chunk_size(inputs)))
    floats = (None,) * len(network.policy.layers)
    reference = lower(network.template, network.quantizers, (floats, floats))
    ratio = speed_ratio(reference.SerializeToString(), graph, inputs)
    return (
        f"{ratio:.2f} times as fast as the float network at batch {item_count(inputs)}, one thread of onnxruntime "
        f"{ort.__version__} on this machine"
    )


def speed_ratio(reference: bytes, graph: bytes, inputs: Structure) -> float:
    """Measure how many times as fast as a reference a graph runs.

    Args:
        reference: Serialized ONNX model of the reference.
        graph: Serialized ONNX model.
        inputs: Inputs of both.

    Returns:
        Median of the ratios of processor times of alternate runs, which other programs hardly change.
    """
    sessions = [open_session(each, threads=1) for each in (reference, graph)]
    ratios: list[float] = []
    end = perf_counter() + SECONDS
    for turn in range(ROUNDS + 1):
        times = []
        for session in sessions:
            began = process_time()
            run_session(session, inputs)
            times.append(process_time() - began)
        if turn:  # the first runs allocate memory
            ratios.append(times[0] / times[1])
        if ratios and perf_counter() > end:
            break
    return median(ratios)
