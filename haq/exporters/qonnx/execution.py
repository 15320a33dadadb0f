"""Execution of QONNX graphs by qonnx, operator by operator."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from haq.errors import UserError
from haq.evaluation.engines.onnxruntime.silence import silent
from haq.execution.user_code import one_line

Arrays = Mapping[str, NDArray[Any]]
INSTALL = "pip install 'haq[export]'"


def missing_qonnx() -> str | None:
    """Return what this machine lacks to execute QONNX, in one line; None if nothing."""
    return None if find_spec("qonnx") is not None else f"qonnx is not installed: {INSTALL}"


def execute(model: onnx.ModelProto, inputs: Arrays) -> dict[str, NDArray[Any]]:
    """Clean a graph up as tools for FPGAs do, and execute it.

    Args:
        model: Graph, with the number of items of the inputs.
        inputs: Arrays by name of the input.

    Returns:
        Outputs by name.

    Raises:
        UserError: qonnx is missing, or does not execute the graph.
    """
    lacks = missing_qonnx()
    if lacks is not None:
        raise UserError(lacks)
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.util.cleanup import cleanup_model

    try:
        with silent():
            cleaned = cleanup_model(ModelWrapper(model, make_deepcopy=True))
            values = {
                mine.name: np.ascontiguousarray(inputs[given.name])
                for mine, given in zip(cleaned.graph.input, model.graph.input, strict=True)
            }
            found = execute_onnx(cleaned, values)
    except Exception as error:  # what its operators raise has no common base class
        raise UserError(f"qonnx does not execute the network: {one_line(error)}") from error
    renamed = zip(model.graph.output, cleaned.graph.output, strict=True)
    return {ours.name: found[theirs.name] for ours, theirs in renamed}
