"""Engine that runs the integer graph of a policy in onnxruntime."""

from copy import copy

import torch

from haq.evaluation.chunks import in_chunks
from haq.evaluation.engines.onnxruntime.correction_graph import build_correction_graph
from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.evaluation.engines.onnxruntime.extraction import make_template
from haq.evaluation.engines.onnxruntime.float_outputs import EvaluatedLowering
from haq.evaluation.engines.onnxruntime.segments import Segments, with_rounded_biases
from haq.evaluation.engines.onnxruntime.sessions import open_session, run_session
from haq.evaluation.engines.onnxruntime.stored_export import stored_export
from haq.evaluation.engines.torch import TorchEngine
from haq.execution.networks import run_network
from haq.execution.structures import Structure, device_of, rebuilt, tensors, to_device
from haq.network.layers import Trace
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import QuantizedModel
from haq.tasks.predictions import Runner


class OnnxEngine:
    """Engine that evaluates the integer graph of a network, as it is exported later, in onnxruntime.

    The network is exported once, when the engine is built. Policies are corrected as in the reference engine, with
    corrections computed by onnxruntime; corrections that are stored in either engine are used by both.

    Args:
        model: Quantized network.
        trace: Trace of the network.
        example: Input of one item, [1, ...].
        reference: Engine that runs the same network in torch.
        threads: Threads of onnxruntime; as many as torch has at the time if None.

    Attributes:
        name: Name of the engine.
        template: Graph without the quantizers, weights and biases of its layers.
        model: Float network.
        threads: Threads of onnxruntime; None for as many as torch has at the time.
        images_per_policy: Number of inputs that corrections are computed on; 0 without corrections.

    Raises:
        NotExportableError: The network cannot be exported, or onnxruntime does not accept a graph, also of later calls.
    """

    name = "onnxruntime"

    def __init__(
        self,
        model: QuantizedModel,
        trace: Trace,
        example: Structure,
        *,
        reference: TorchEngine,
        threads: int | None = None,
    ) -> None:
        self.template = make_template(stored_export(model.model, trace, example), trace)
        with torch.no_grad():
            self._outputs = run_network(model.model, to_device(example, device_of(tuple(model.model.parameters()))))
        found, expected = len(self.template.marked.graph.output), len(list(tensors(self._outputs)))
        if found != expected:
            raise NotExportableError(f"the network has {expected} outputs and its graph {found}")
        self.model = model.model
        self._quantizers = model.quantizers
        self.threads = threads
        self._correct_as(reference)

    def with_reference(self, reference: TorchEngine) -> "OnnxEngine":
        """Return an engine of the same network that computes corrections from the images of another reference.

        Args:
            reference: Engine that runs the same network in torch.

        Returns:
            The engine.
        """
        other = copy(self)
        other._correct_as(reference)
        return other

    def runner(self, bits: PolicyBits | None) -> Runner:
        """Return the network with given bits as a function from inputs to outputs.

        Args:
            bits: (w_bits, a_bits) of every layer; None for the float network.

        Returns:
            Function from inputs [n, ...] to outputs.
        """
        floats = (None,) * len(self.template.products)
        corrections = Corrections() if bits is None else self.corrections(bits)
        lowering = EvaluatedLowering(self.template, self._quantizers, bits or (floats, floats), corrections=corrections)
        session = open_session(lowering.model().SerializeToString(), threads=self._thread_count)

        def run(inputs: Structure) -> Structure:
            return rebuilt(self._outputs, map(torch.from_numpy, run_session(session, inputs)))

        return lambda inputs: in_chunks(run, inputs)

    def segments(self, bits: PolicyBits, corrections: Corrections) -> Segments:
        """Return the graph of a policy, cut at the inputs of its layers.

        Args:
            bits: (w_bits, a_bits) of every layer.
            corrections: Corrections to use.

        Returns:
            The segments.
        """
        return Segments(self.template, self._quantizers, bits, corrections=corrections, threads=self._thread_count)

    def rounded(self, bits: PolicyBits, corrections: Corrections) -> Corrections:
        """Return corrections with which torch uses the same rounded biases as this engine.

        Args:
            bits: (w_bits, a_bits) of every layer.
            corrections: Corrections with exact biases.

        Returns:
            Corrections that include the rounding of biases.
        """
        return with_rounded_biases(self.template, self._quantizers, bits, corrections)

    def corrections(self, bits: PolicyBits) -> Corrections:
        """Return the corrections of a policy: those that are stored, else computed by onnxruntime.

        Args:
            bits: (w_bits, a_bits) of every layer.

        Returns:
            Corrections of the shift in means and variances that quantization causes.
        """
        if bits in self._stored or self._corrector is None:
            return self._stored.get(bits, Corrections())
        graph = build_correction_graph(self.template, self._quantizers, bits, floats=self._corrector.floats)
        session = open_session(graph.model.SerializeToString(), threads=self._thread_count)
        return graph.corrections(run_session(session, self._corrector.images))

    def store(self, bits: PolicyBits, corrections: Corrections) -> None:
        """Store the corrections of a policy, to be used instead of computing them.

        Args:
            bits: (w_bits, a_bits) of every layer.
            corrections: Corrections to use.
        """
        self._stored[bits] = corrections

    def _correct_as(self, reference: TorchEngine) -> None:
        self._corrector, self._stored = reference.corrector, reference.stored
        self.images_per_policy = reference.images_per_policy

    @property
    def _thread_count(self) -> int:
        return torch.get_num_threads() if self.threads is None else self.threads
