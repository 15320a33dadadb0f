"""Network with its policy, ready to be exported."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor, nn

from haq.errors import UserError
from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.protocols import CorrectingEngine
from haq.execution.progress import Progress, no_progress
from haq.execution.structures import Structure
from haq.experiment.artifact import Artifact
from haq.experiment.preparation import prepare_network
from haq.experiment.problem import Network
from haq.exporters.formats import FormatName
from haq.network.layer_calls import weight_of
from haq.network.layers import Trace
from haq.policy import Policy, PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.tasks.predictions import Runner

if TYPE_CHECKING:  # imports the exporter of torch, which takes seconds
    from haq.evaluation.engines.onnxruntime import Template

OFFSET_FORMATS: tuple[FormatName, ...] = ("onnx",)
"""Formats that hold offsets of inputs, which a fine-tuning with --shift float leaves."""
CHECK_IMAGES = 64
"""Number of inputs on which an export is compared with the network before it is written."""


@dataclass(frozen=True, eq=False)
class Deployable:
    """Network with its policy, quantizers and corrections, ready to be exported.

    Attributes:
        artifact: Artifact that is exported.
        network: Network with its data and the engine that evaluates the policy.
        model: Network whose weights are quantized: the float network, or the trained one of a fine-tuning.
        quantizers: Quantizers of `model`, with those of the policy restored or calibrated.
        example: Input of one item, [1, ...].
    """

    artifact: Artifact
    network: Network
    model: nn.Module
    quantizers: Quantizers
    example: Structure

    @property
    def policy(self) -> Policy:
        """Bits of all layers."""
        return self.artifact.policy

    @property
    def bits(self) -> PolicyBits:
        """(w_bits, a_bits) of every layer."""
        return self.policy.w_bits, self.policy.a_bits

    @property
    def trace(self) -> Trace:
        """Layers of the network."""
        return self.network.priced.trace

    @cached_property
    def corrections(self) -> Corrections:
        """Corrections of the policy; empty ones for a network that was trained with it."""
        return self.corrections_of(self.bits)

    def corrections_of(self, bits: PolicyBits) -> Corrections:
        """Return the corrections of a policy, computed from the first calibration inputs unless they are stored.

        Args:
            bits: (w_bits, a_bits) of every layer.

        Returns:
            The corrections; for a network that was trained, biases that make up for offsets of inputs.
        """
        engine = self.network.engine
        return engine.corrections(bits) if isinstance(engine, CorrectingEngine) else self._offset_biases(bits)

    def _offset_biases(self, bits: PolicyBits) -> Corrections:
        """Return the offset of each input times the sums of the weights that it meets."""
        biases: dict[int, Tensor] = {}
        for layer, (w, a) in enumerate(zip(*bits, strict=True)):
            quantizer = None if a is None else self.quantizers.activation(layer, a)
            if quantizer is not None and quantizer.offset:
                site = self.trace.sites[layer]
                weight = weight_of(self.model, site).detach() if w is None else self.quantizers.weight(layer, w)
                biases[layer] = (weight.double().flatten(1).sum(dim=1) * quantizer.offset).float()
        return Corrections(biases=biases)

    def require_format(self, name: FormatName) -> None:
        """Require that a format can hold the grids of the inputs.

        Args:
            name: Name of the format.

        Raises:
            UserError: An input has an offset, and the format cannot hold one.
        """
        if name in OFFSET_FORMATS or self.artifact.quantized.trained is None:
            return
        if self._offset_biases(self.bits).biases:
            raise UserError(
                f"--format {name} cannot hold the offsets of --shift float; use --format onnx, or fine-tune with "
                "--shift learned"
            )

    @cached_property
    def template(self) -> "Template":
        """ONNX graph of the network without the quantizers, weights and biases of its layers.

        Raises:
            UserError: The network has no ONNX graph.
        """
        from haq.evaluation.engines.onnxruntime import make_template
        from haq.evaluation.engines.onnxruntime.stored_export import stored_export

        return make_template(stored_export(self.model, self.trace, self.example), self.trace)

    @cached_property
    def evaluated(self) -> Runner:
        """The quantized network as the search or `haq evaluate` runs it, a function from inputs to outputs."""
        return self.network.engine.runner(self.bits)

    def quantized(self, bits: PolicyBits) -> Runner:
        """Return the network with other bits than those of the policy, for formats that raise them.

        Args:
            bits: (w_bits, a_bits) of every layer.

        Returns:
            Function from inputs [n, ...] to outputs.
        """
        if bits == self.bits:
            return self.evaluated
        engine = TorchEngine(QuantizedModel(self.model, self.trace, self.quantizers))
        engine.store(bits, self.corrections_of(bits))
        return engine.runner(bits)

    def check_inputs(self, images: int | None = None) -> Structure:
        """Return the first inputs of the search split, on which exports are compared with the network.

        Args:
            images: Largest number of inputs; None for `CHECK_IMAGES`.

        Returns:
            Inputs [n, ...].
        """
        size = CHECK_IMAGES if images is None else min(images, CHECK_IMAGES)
        return next(iter(self.network.task.batches("search", batch_size=size)))[0]


def make_deployable(artifact: Artifact, *, progress: Progress = no_progress) -> Deployable:
    """Load the network of an artifact with its data and restore its quantizers.

    Args:
        artifact: Result of a search, fine-tuning or reconstruction, or a policy with settings.
        progress: Receives the name of every phase.

    Returns:
        The network, on the CPU.

    Raises:
        UserError: Network or data cannot be loaded or do not fit, or the weights are no integers.
    """
    artifact.allow_code()
    config = artifact.config.model_copy(update={"device": "cpu"})
    if config.quantizer != "linear":
        raise UserError("codebooks of --quantizer kmeans are not exported; make the policy with --quantizer linear")
    network = prepare_network(
        config,
        model=artifact.inputs.model,
        task=artifact.inputs.task,
        example=artifact.example,
        quantized=artifact.quantized,
        progress=progress,
    )
    example = network.task.example() if artifact.example is None else artifact.example
    if artifact.quantized.trained is None:
        return Deployable(artifact, network, network.priced.model, network.quantizers, example)
    trained = artifact.quantized.trained_network(network.priced.model, network.priced.trace)
    quantizers = network.quantizers.of_network(trained.model)
    stored = replace(artifact.quantized, tensors=trained.quantizer_tensors())
    stored.restore(quantizers, network.priced.trace, model=trained.model)
    return Deployable(artifact, network, trained.model, quantizers, example)
