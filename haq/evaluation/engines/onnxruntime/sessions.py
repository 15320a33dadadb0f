"""onnxruntime sessions on the CPU, configured for deterministic results."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as states
from torch import Tensor

from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.unshared import without_shared_codes
from haq.execution.onnx_sessions import session_options
from haq.execution.structures import Structure, tensors

_FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    *(each for each in vars(states).values() if isinstance(each, type) and issubclass(each, Exception)),
)
"""Exceptions of onnxruntime for a graph, or for inputs, that it cannot run; its own errors share no base class."""
_LOG_NOTHING = 4
"""Severity above fatal errors; failures are raised as well."""
_LONGEST_REASON = 200
_SHARED = "Attempt to replace the existing tensor"
"""Part of the message where onnxruntime converts an int8 constant for a second reader."""


def open_session(graph: bytes, *, threads: int, optimized: str | None = None) -> ort.InferenceSession:
    """Open a session on the CPU that gives the same results every time.

    Args:
        graph: Serialized ONNX model.
        threads: Threads within an operator.
        optimized: File to write the optimized graph to.

    Returns:
        The session.

    Raises:
        NotExportableError: onnxruntime does not accept the graph.
    """
    options = session_options(threads=threads)
    options.use_deterministic_compute = True
    # Spinning threads occupy the cores that torch and other processes need: 1.3 times as slow, or more.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _LOG_NOTHING
    if optimized is not None:
        options.optimized_model_filepath = optimized
    try:
        return _session(graph, options)
    except _FAILURES as error:
        if _SHARED not in str(error):
            raise NotExportableError(f"onnxruntime does not open the network: {_reason(error)}") from error
    try:
        return _session(without_shared_codes(graph), options)
    except _FAILURES as error:
        raise NotExportableError(f"onnxruntime does not open the network: {_reason(error)}") from error


def _session(graph: bytes, options: ort.SessionOptions) -> ort.InferenceSession:
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"], enable_fallback=0)


def run_session(session: ort.InferenceSession, inputs: Structure) -> list[NDArray[Any]]:
    """Run a graph that has one input.

    Args:
        session: Session of the graph.
        inputs: Inputs of the network.

    Returns:
        All outputs of the graph.

    Raises:
        NotExportableError: onnxruntime fails on the input.
    """
    named = by_name([value.name for value in session.get_inputs()], inputs)
    return run_named(session, {name: tensor.numpy(force=True) for name, tensor in named.items()})


def by_name(names: Sequence[str], inputs: Structure) -> dict[str, Tensor]:
    """Assign the tensors of structured inputs to the inputs of a graph, in order.

    Args:
        names: Names of the graph's inputs.
        inputs: Inputs of the network.

    Returns:
        Tensors by name.

    Raises:
        NotExportableError: The graph has another number of inputs.
    """
    found = list(tensors(inputs))
    if len(found) != len(names):
        raise NotExportableError(f"the network has {len(found)} inputs and its graph {len(names)}")
    return dict(zip(names, found, strict=True))


def run_named(session: ort.InferenceSession, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Run a graph.

    Args:
        session: Session of the graph.
        inputs: Input arrays by name.

    Returns:
        All outputs of the graph.

    Raises:
        NotExportableError: onnxruntime fails on the inputs.
    """
    try:
        outputs: list[NDArray[Any]] = session.run(None, dict(inputs))
    except _FAILURES as error:
        items = len(next(iter(inputs.values())))
        reason = f"onnxruntime does not run the network on a batch of {items}: {_reason(error)}"
        raise NotExportableError(reason) from error
    return outputs


def _reason(error: Exception) -> str:
    """Return the message of an onnxruntime error, `[ONNXRuntimeError] : NUMBER : NAME : MESSAGE`, in one line."""
    return textwrap.shorten(str(error).split(" : ", 3)[-1], _LONGEST_REASON, placeholder=" ...").rstrip(".")
