"""Engine that runs fake quantization in PyTorch; other engines are compared with it."""

from functools import partial

from torch import nn

from haq.evaluation.chunks import in_chunks
from haq.execution.networks import run_network
from haq.execution.structures import Structure, item_count, spread, take, to_device
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections, Corrector
from haq.quantization.quantized_model import QuantizedModel
from haq.tasks.predictions import Runner


class TorchEngine:
    """Engine that runs fake quantization in PyTorch, the reference.

    Args:
        model: Quantized network, on `device`.
        images: Inputs [n, ...] of the corrections, see `haq.quantization.corrections`; None for no corrections.
        device: "cpu" or "cuda".

    Attributes:
        name: Name of the engine.
        quantized: Quantized network.
        device: Device that it runs on.
        images_per_policy: Number of inputs that corrections are computed on; 0 without corrections.
        stored: Corrections by policy that are used instead of computed ones.
        corrector: Estimator of corrections; None without corrections.
    """

    name = "torch"

    def __init__(self, model: QuantizedModel, images: Structure | None = None, *, device: str = "cpu") -> None:
        self.quantized, self.device = model, device
        self.images_per_policy = 0 if images is None else item_count(images)
        self.stored: dict[PolicyBits, Corrections] = {}
        self.corrector = None if images is None else _corrector(model, to_device(images, device))

    def with_images(self, count: int) -> "TorchEngine":
        """Return an engine that computes corrections from fewer images; stored ones are shared.

        Args:
            count: Number of images, the first ones.

        Returns:
            This engine if it has no more images, else another one.
        """
        if self.corrector is None or self.images_per_policy <= count:
            return self
        other = TorchEngine(self.quantized, take(self.corrector.images, slice(count)), device=self.device)
        other.stored = self.stored
        return other

    @property
    def model(self) -> nn.Module:
        """The float network."""
        return self.quantized.model

    def runner(self, bits: PolicyBits | None) -> Runner:
        """Return the network with a policy as a function.

        Args:
            bits: (w_bits, a_bits) of every layer; None for the float network.

        Returns:
            Function from inputs [n, ...], on any device, to outputs on the engine's device.

        Raises:
            UserError: Activations on the calibration inputs are not finite.
        """
        if bits is None:
            return self._runner(partial(run_network, self.model))
        return self.corrected(bits, self.corrections(bits))

    def corrected(self, bits: PolicyBits, corrections: Corrections) -> Runner:
        """Return the network with a policy and given corrections as a function.

        The function sets bits and corrections at each call, so that functions of several policies can be used
        alternately.

        Args:
            bits: (w_bits, a_bits) of every layer.
            corrections: Corrections of outputs and batch norms.

        Returns:
            Function from inputs [n, ...], on any device, to outputs on the engine's device.
        """

        def run(inputs: Structure) -> Structure:
            self.quantized.set_bits(*bits)
            self.quantized.set_corrections(corrections)
            positional, named = spread(inputs)
            return self.quantized(*positional, **named)

        return self._runner(run)

    def _runner(self, network: Runner) -> Runner:
        if self.device != "cpu":
            return lambda inputs: network(to_device(inputs, self.device))
        return lambda inputs: in_chunks(network, to_device(inputs, self.device))

    def corrections(self, bits: PolicyBits) -> Corrections:
        """Return the corrections of a policy: those stored for it, else computed from the images.

        Args:
            bits: (w_bits, a_bits) of every layer.

        Returns:
            The corrections; empty ones if the engine does not correct.
        """
        if bits in self.stored or self.corrector is None:
            return self.stored.get(bits, Corrections())
        self.quantized.set_bits(*bits)
        return self.corrector.find()

    def store(self, bits: PolicyBits, corrections: Corrections) -> None:
        """Store the corrections of a policy, which are then used instead of computed ones.

        Args:
            bits: (w_bits, a_bits) of every layer.
            corrections: Corrections of this policy.
        """
        self.stored[bits] = corrections


def _corrector(model: QuantizedModel, images: Structure) -> Corrector:
    return Corrector(model.model, model.index, images, quantized=model.quantized, is_scalable=model.is_scalable)
