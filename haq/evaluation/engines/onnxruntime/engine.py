"""onnxruntime runs the graph of a policy."""

from collections.abc import Callable

import torch
from torch import Tensor

from haq.evaluation.engines.onnxruntime.correcting import correcting_graph
from haq.evaluation.engines.onnxruntime.lowering import lower
from haq.evaluation.engines.onnxruntime.segments import Segments, with_rounded_biases
from haq.evaluation.engines.onnxruntime.sessions import open_session, run_session
from haq.evaluation.engines.onnxruntime.stored_export import stored_export
from haq.evaluation.engines.onnxruntime.template import make_template
from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.pieces import in_pieces
from haq.network.layers import Trace
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import QuantizedModel


class OnnxEngine:
    """Evaluates a network as the integer graph that is exported later; the network is exported once, here.

    `example` holds one item, [1, ...]. `reference` runs the same network in torch; policies are corrected as there, but
    found by onnxruntime; those stored with either hold for both. `threads` are torch's unless given. Raises
    NotExportableError, also where onnxruntime refuses a graph that is first needed later.
    """

    name = "onnxruntime"

    def __init__(
        self,
        model: QuantizedModel,
        trace: Trace,
        example: Tensor,
        *,
        reference: TorchEngine,
        threads: int | None = None,
    ) -> None:
        self.template = make_template(stored_export(model.model, trace, example), trace)
        self.model = model.model
        self._quantizers, self._corrector = model.quantizers, reference.corrector
        self._stored = reference.stored
        self.threads = torch.get_num_threads() if threads is None else threads
        self.images_per_policy = reference.images_per_policy

    def outputs(self, bits: PolicyBits | None) -> Callable[[Tensor], Tensor]:
        """The network with these bits, or in float, as a function from inputs to outputs."""
        floats = (None,) * len(self.template.products)
        corrections = Corrections() if bits is None else self.corrections(bits)
        graph = lower(self.template, self._quantizers, bits or (floats, floats), corrections=corrections, fold=True)
        session = open_session(graph.SerializeToString(), threads=self.threads)
        return lambda inputs: in_pieces(lambda piece: torch.from_numpy(run_session(session, piece)[0]), inputs)

    def segments(self, bits: PolicyBits, corrections: Corrections) -> Segments:
        """The graph of a policy, cut at the inputs of its layers, with these corrections."""
        return Segments(self.template, self._quantizers, bits, corrections=corrections, threads=self.threads)

    def rounded(self, bits: PolicyBits, corrections: Corrections) -> Corrections:
        """Corrections with which torch computes with the biases that this engine rounds."""
        return with_rounded_biases(self.template, self._quantizers, bits, corrections)

    def corrections(self, bits: PolicyBits) -> Corrections:
        """What makes up for the shift that these bits bring."""
        if bits in self._stored or self._corrector is None:
            return self._stored.get(bits, Corrections())
        graph = correcting_graph(self.template, self._quantizers, bits, floats=self._corrector.floats)
        session = open_session(graph.model.SerializeToString(), threads=self.threads)
        return graph.corrections(run_session(session, self._corrector.images))

    def store(self, bits: PolicyBits, corrections: Corrections) -> None:
        """Use these corrections for a policy instead of finding them."""
        self._stored[bits] = corrections
