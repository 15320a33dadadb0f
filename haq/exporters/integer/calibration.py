"""Calibration of the tensors that no layer quantizes, in one float pass over the calibration inputs."""

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from haq.evaluation.chunks import chunk_size
from haq.evaluation.engines.onnxruntime.lowering import lower
from haq.evaluation.engines.onnxruntime.sessions import open_session, run_session
from haq.evaluation.engines.onnxruntime.template import Template
from haq.execution.structures import Structure, item_count, take
from haq.exporters.integer.grids import WHOLE_BITS, Grid, stored_grid
from haq.exporters.integer.storage import Calibrated
from haq.quantization.calibration import MethodChoice
from haq.quantization.histogram import HistogramBuilder
from haq.quantization.linear import activation_quantizer
from haq.quantization.quantizers import Quantizers

_CHUNK_VALUES = 2**18
"""Input values per run; the recorded tensors take a multiple of their memory."""


def calibrate_tensors(
    template: Template,
    quantizers: Quantizers,
    wanted: Sequence[Calibrated],
    batches: Iterable[Structure],
    *,
    method: MethodChoice = "mse",
) -> dict[Calibrated, Grid]:
    """Calibrate quantizers of 8 bits on values of the float network.

    Args:
        template: Graph without the quantizers, weights and biases of its layers.
        quantizers: Quantizers of the network.
        wanted: Tensors to quantize.
        batches: Calibration inputs.
        method: Calibration method.

    Returns:
        Grids by tensor.
    """
    if not wanted:
        return {}
    names = sorted({each.tensor for each in wanted})
    session = open_session(
        _recording_graph(template, quantizers, names).SerializeToString(), threads=torch.get_num_threads()
    )
    builders = {each: HistogramBuilder() for each in wanted}
    for part in _parts(batches):
        found = dict(zip(names, run_session(session, part)[-len(names) :], strict=True))
        for each, builder in builders.items():
            values = each.function.apply(found[each.tensor].astype(np.float64))
            builder.update(torch.from_numpy(values))
    return {
        each: stored_grid(activation_quantizer(builder.build(), WHOLE_BITS, method=method))
        for each, builder in builders.items()
    }


def _recording_graph(template: Template, quantizers: Quantizers, names: Sequence[str]) -> onnx.ModelProto:
    """Return the float graph with more outputs."""
    floats = (None,) * len(template.products)
    graph = lower(template, quantizers, (floats, floats))
    graph.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    return graph


def _parts(batches: Iterable[Structure]) -> Iterable[Structure]:
    for batch in batches:
        size = chunk_size(batch, _CHUNK_VALUES)
        for start in range(0, item_count(batch), size):
            yield take(batch, slice(start, start + size))
