"""onnxruntime's sessions, as every graph here wants them."""

from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as states
from torch import Tensor

from haq.integer_graph.errors import NotExportableError

_REFUSALS = (states.Fail, states.InvalidArgument, states.InvalidGraph, states.NotImplemented, states.RuntimeException)
"""What onnxruntime raises on a graph that it cannot run."""


def open_session(graph: bytes, *, threads: int, optimized: str | None = None) -> ort.InferenceSession:
    """A session on the CPU, with the same results every time; `optimized` names a file for the graph that it runs.

    Raises NotExportableError where onnxruntime refuses the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.use_deterministic_compute = True
    # Threads that wait busily take the cores from torch and from other processes: 1.3 times as slow, or more.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: it warns of what it optimizes
    if optimized is not None:
        options.optimized_model_filepath = optimized
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except _REFUSALS as error:
        raise NotExportableError(f"onnxruntime does not run the network: {str(error).splitlines()[0]}") from error


def run_session(session: ort.InferenceSession, inputs: Tensor) -> list[NDArray[Any]]:
    """All outputs of a graph with one input."""
    (name,) = (value.name for value in session.get_inputs())
    outputs: list[NDArray[Any]] = session.run(None, {name: inputs.numpy(force=True)})
    return outputs
