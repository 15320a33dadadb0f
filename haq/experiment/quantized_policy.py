"""Policy with its quantizers, corrections and, if the network was trained with it, weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from haq.errors import UserError
from haq.layer_bits import Granularity, LayerBits
from haq.network.layers import Trace
from haq.policy import Policy, PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantizers import Quantizers
from haq.quantization.stored_tensors import misfit_text, require_shapes
from haq.quantization.training.initialization import LearnedShift
from haq.quantization.training.network import Saved, TrainableNetwork, load_network
from hardware_sim.layer import Layer

_MISFITS = (KeyError, ValueError, RuntimeError, TypeError, IndexError)
"""Exceptions of restoring quantizers from tensors of another network."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedState:
    """Weights of a network that was trained with its policy.

    Attributes:
        values: State dict of the network: tensors and plain JSON values.
        shift: How zero points of inputs were learned.
    """

    values: Mapping[str, Any]
    shift: LearnedShift


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedPolicy:
    """Policy with its quantizers, corrections and trained weights, if they are stored.

    Attributes:
        policy: Bits of all layers.
        tensors: Parameters of quantizers (`LAYER.weight.scale`, `LAYER.input.zero_point`, ...) and of corrections
            (`LAYER.output.bias`, `PATH:CALL.mean`), by name; None if they are to be computed from calibration inputs.
        trained: Weights, if the network was trained; None for those of the float network.
        path: File of the tensors, for messages.
    """

    policy: Policy
    tensors: Mapping[str, Tensor] | None = None
    trained: TrainedState | None = None
    path: Path | None = None

    @property
    def bits(self) -> PolicyBits:
        """Bits of weights and inputs, by layer."""
        return self.policy.w_bits, self.policy.a_bits

    @property
    def corrections(self) -> Corrections:
        """Corrections of biases and of batch norm statistics; empty if none are stored."""
        names = tuple(layer.name for layer in self.policy.layers)
        return Corrections() if self.tensors is None else Corrections.from_tensors(self.tensors, names)

    def restore(self, quantizers: Quantizers, trace: Trace, *, model: nn.Module, device: str = "cpu") -> Corrections:
        """Load the stored quantizers, so that no calibration is needed for this policy.

        Args:
            quantizers: Receives the quantizers.
            trace: Layers of the network, which the policy fits.
            model: The network.
            device: Device of the network.

        Returns:
            The corrections of the policy.

        Raises:
            UserError: The tensors do not fit the policy or the network.
        """
        tensors = {name: tensor.to(device) for name, tensor in (self.tensors or {}).items()}
        try:
            require_shapes(tensors)
            quantizers.load(tensors, *self.bits)
            corrections = Corrections.from_tensors(tensors, tuple(layer.name for layer in self.policy.layers))
            _require_usable(tensors, corrections, trace)
            _require_statistics(corrections, model)
        except _MISFITS as error:
            subject, remedy = ("the quantizers do", "") if self.path is None else (f"{self.path} does", "; delete it")
            raise UserError(f"{subject} not fit the policy: {misfit_text(error)}{remedy}") from error
        return corrections

    def trained_network(self, model: nn.Module, trace: Trace) -> TrainableNetwork:
        """Build the network that was trained with the policy.

        Args:
            model: Float network; gives the structure and is not changed.
            trace: Its layers.

        Returns:
            The network with its learned quantizers, in evaluation mode on the device of `model`.

        Raises:
            UserError: Weights or quantizers do not fit the network.
        """
        assert self.trained is not None
        saved = Saved(self.trained.values, self.tensors or {}, self.trained.shift)
        return load_network(model, trace, self.bits, saved)


def describe_quantizers(policy: Policy, tensors: Mapping[str, Tensor], layers: Sequence[Layer]) -> Policy:
    """Return the policy with signedness and granularity of every quantizer, in version 2.

    Args:
        policy: Bits of all layers.
        tensors: Parameters of its quantizers by name, as in `QuantizedPolicy`.
        layers: Layers of the network; a tied layer has the weight quantizer of its owner.

    Returns:
        A copy; fields of parts in float or without a linear quantizer, such as codebooks and indices, are None.
    """
    described = []
    for bits, layer in zip(policy.layers, layers, strict=True):
        factor = f"{layer.tied_to or layer.name}.weight" if layer.has_weights else f"{layer.name}.second_input"
        w_signed, w_granularity = _kind(tensors, factor)
        a_signed, a_granularity = _kind(tensors, f"{layer.name}.input")
        found = {"w_signed": w_signed, "w_granularity": w_granularity}
        found |= {"a_signed": a_signed, "a_granularity": a_granularity}
        described.append(LayerBits(**{**bits.model_dump(), **found}))
    return policy.in_version_2(layers=tuple(described))


def _kind(tensors: Mapping[str, Tensor], name: str) -> tuple[bool | None, Granularity | None]:
    """Return signedness and granularity of one quantizer; (None, None) if there is none."""
    scale, codes = tensors.get(f"{name}.scale"), tensors.get(f"{name}.range")
    if scale is None or codes is None:
        return None, None
    return bool(codes[0] < 0), "per_channel" if scale.ndim else "per_tensor"


def _require_usable(tensors: Mapping[str, Tensor], corrections: Corrections, trace: Trace) -> None:
    """Raise ValueError for numbers that are not finite, scales below 0, and biases of another shape."""
    for name, tensor in tensors.items():
        is_scale = name.endswith(".scale")
        if tensor.is_floating_point() and not (tensor.isfinite().all() and (not is_scale or (tensor >= 0).all())):
            raise ValueError(f"{name} has values that it cannot have")
    for layer, bias in corrections.biases.items():
        if tuple(bias.shape) != (trace.layers[layer].c_out,):
            raise ValueError(f"the bias of {trace.layers[layer].name} has the shape {tuple(bias.shape)}")


def _require_statistics(corrections: Corrections, model: nn.Module) -> None:
    """Raise ValueError for statistics of no batch norm of the network, of another shape, or negative variances."""
    buffers = dict(model.named_buffers())
    for (path, call), moments in corrections.statistics.items():
        if path not in buffers:
            raise ValueError(f"{path}:{call} is no batch norm of the network")
        for part in moments:
            if part.shape != buffers[path].shape:
                raise ValueError(f"the statistics of {path}:{call} have the shape {tuple(part.shape)}")
        if (moments[1] < 0).any():
            raise ValueError(f"{path}:{call}.variance has values that it cannot have")
