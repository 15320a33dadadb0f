"""onnxruntime's sessions, as every graph here wants them."""

import textwrap
from collections.abc import Mapping
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as states
from torch import Tensor

from haq.evaluation.engines.onnxruntime.errors import NotExportableError

_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    *(each for each in vars(states).values() if isinstance(each, type) and issubclass(each, Exception)),
)
"""What onnxruntime raises on a graph, or on inputs, that it cannot run: its own errors share no base class."""
_LOG_NOTHING = 4
"""Below fatal errors; what fails is raised as well."""
_LONGEST_REASON = 200


def open_session(graph: bytes, *, threads: int, optimized: str | None = None) -> ort.InferenceSession:
    """A session on the CPU, with the same results every time; `optimized` names a file for the graph that it runs.

    Raises NotExportableError where onnxruntime refuses the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.use_deterministic_compute = True
    # Threads that wait busily take the cores from torch and from other processes: 1.3 times as slow, or more.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _LOG_NOTHING
    if optimized is not None:
        options.optimized_model_filepath = optimized
    try:
        return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    except _FAILURES as error:
        raise NotExportableError(f"onnxruntime does not open the network: {_reason(error)}") from error


def run_session(session: ort.InferenceSession, inputs: Tensor) -> list[NDArray[Any]]:
    """All outputs of a graph with one input. Raises NotExportableError where onnxruntime fails on it."""
    (name,) = (value.name for value in session.get_inputs())
    return run_named(session, {name: inputs.numpy(force=True)})


def run_named(session: ort.InferenceSession, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """All outputs of a graph, with its inputs by name. Raises NotExportableError where onnxruntime fails on them."""
    try:
        outputs: list[NDArray[Any]] = session.run(None, dict(inputs))
    except _FAILURES as error:
        items = len(next(iter(inputs.values())))
        reason = f"onnxruntime does not run the network on a batch of {items}: {_reason(error)}"
        raise NotExportableError(reason) from error
    return outputs


def _reason(error: Exception) -> str:
    """The message of one of onnxruntime's errors, `[ONNXRuntimeError] : NUMBER : NAME : MESSAGE`, in one line."""
    return textwrap.shorten(str(error).split(" : ", 3)[-1], _LONGEST_REASON, placeholder=" ...").rstrip(".")
