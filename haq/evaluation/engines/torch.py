"""The reference engine: fake quantization in PyTorch."""

from functools import partial

from torch import nn

from haq.evaluation.chunks import in_chunks
from haq.execution.networks import run_network
from haq.execution.structures import Structure, item_count, spread, to_device
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections, Corrector
from haq.quantization.quantized_model import QuantizedModel
from haq.tasks.predictions import Runner


class TorchEngine:
    """Fake quantization in PyTorch: the reference.

    With `images` every policy is corrected by what they show, see `haq.quantization.corrections`.
    """

    name = "torch"

    def __init__(self, model: QuantizedModel, images: Structure | None = None, *, device: str = "cpu") -> None:
        self.quantized, self.device = model, device
        self.images_per_policy = 0 if images is None else item_count(images)
        self.stored: dict[PolicyBits, Corrections] = {}
        self.corrector = None if images is None else _corrector(model, to_device(images, device))

    @property
    def model(self) -> nn.Module:
        """The float network."""
        return self.quantized.model

    def runner(self, bits: PolicyBits | None) -> Runner:
        """The network on its device with these bits, or in float."""
        if bits is None:
            return self._runner(partial(run_network, self.model))
        return self.corrected(bits, self.corrections(bits))

    def corrected(self, bits: PolicyBits, corrections: Corrections) -> Runner:
        """The network with these bits and corrections, whatever it runs with in between."""

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
        """What makes up for the shift that these bits bring."""
        if bits in self.stored or self.corrector is None:
            return self.stored.get(bits, Corrections())
        self.quantized.set_bits(*bits)
        return self.corrector.find()

    def store(self, bits: PolicyBits, corrections: Corrections) -> None:
        """Use these corrections for a policy instead of finding them."""
        self.stored[bits] = corrections


def _corrector(model: QuantizedModel, images: Structure) -> Corrector:
    return Corrector(model.model, model.index, images, quantized=model.quantized)
