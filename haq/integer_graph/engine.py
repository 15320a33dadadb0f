"""onnxruntime runs the graph of a policy."""

from collections.abc import Callable

import onnxruntime as ort
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as states
from torch import Tensor

from haq.corrections import Corrections
from haq.evaluation import Engine, PolicyBits
from haq.integer_graph.errors import NotExportableError
from haq.integer_graph.lowering import lower
from haq.integer_graph.marking import export_marked
from haq.integer_graph.template import make_template
from haq.layers import Trace
from haq.quantized_model import QuantizedModel

_REFUSALS = (states.Fail, states.InvalidArgument, states.InvalidGraph, states.NotImplemented, states.RuntimeException)
"""What onnxruntime raises on a graph that it cannot run."""


class OnnxEngine:
    """Evaluates a network as the integer graph that is exported later; the network is exported once, here.

    `example` holds one item, [1, ...]. `reference` runs the same network in torch and finds the corrections. `threads`
    are torch's unless given. Raises NotExportableError, also from `outputs` where onnxruntime refuses the graph.
    """

    name = "onnxruntime"

    def __init__(
        self, model: QuantizedModel, trace: Trace, example: Tensor, *, reference: Engine, threads: int | None = None
    ) -> None:
        self.template = make_template(export_marked(model.model, trace, example), trace)
        self._quantizers, self._reference = model.quantizers, reference
        self.threads = torch.get_num_threads() if threads is None else threads
        self.images_a_policy = reference.images_a_policy

    def outputs(self, bits: PolicyBits | None) -> Callable[[Tensor], Tensor]:
        """The network with these bits, or in float, as a function from inputs to outputs."""
        floats = (None,) * len(self.template.products)
        corrections = Corrections() if bits is None else self.corrections(bits)
        graph = lower(self.template, self._quantizers, bits or (floats, floats), corrections=corrections, fold=True)
        session = open_session(graph.SerializeToString(), threads=self.threads)
        (name,) = (value.name for value in session.get_inputs())

        def run(inputs: Tensor) -> Tensor:
            (outputs,) = session.run(None, {name: inputs.numpy(force=True)})
            return torch.from_numpy(outputs)

        return run

    def corrections(self, bits: PolicyBits) -> Corrections:
        """What makes up for the shift that these bits bring."""
        return self._reference.corrections(bits)

    def store(self, bits: PolicyBits, corrections: Corrections) -> None:
        """Use these corrections for a policy instead of finding them."""
        self._reference.store(bits, corrections)


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
