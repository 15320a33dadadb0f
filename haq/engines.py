"""Which engine evaluates policies, and whether two engines say the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from haq.errors import UserError
from haq.evaluation.protocols import Engine, PolicyBits
from haq.evaluation.torch_engine import TorchEngine
from haq.layers import Trace
from haq.quantized_model import QuantizedModel

EngineName = Literal["auto", "onnxruntime", "torch"]
TRIAL_WIDTHS = (8, 6, 4)
"""Engines are compared at each of these in all layers, and with all of them in turn."""
TOLERANCE = 2.0
"""Engines disagree where their outputs differ by more than this, in units of what quantization itself changes. Two
engines that round independently of each other would reach 1.4; on the digits network they reach 0.7, and 14 where
kernels add two products in a saturating int16, as processors without VNNI do. What remains between honest engines is
the bias, which an integer kernel rounds to a whole number of the accumulator's steps and torch does not, and values
halfway between two codes, which may then take either; both weigh more at low bits."""
FLOAT_ROUNDING = 1e-5
"""What two engines may differ by in float, relative to the outputs; a policy counts as changing at least this."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far the outputs of two engines lie apart."""

    predictions: int
    differing: int
    """Predictions whose highest output is another one."""
    max_relative_difference: float
    """The largest difference of two outputs, relative to the largest output of the same policy."""
    error_ratio: float
    """Root mean square of the difference, relative to what the policy changes in the float outputs; of the policy
    where it is largest."""

    @property
    def is_close(self) -> bool:
        """Whether the difference can be rounding."""
        return self.error_ratio <= TOLERANCE

    def __str__(self) -> str:
        """One line for people."""
        return (
            f"{self.differing} of {self.predictions} predictions differ, outputs by at most "
            f"{100 * self.max_relative_difference:.2g} %, {self.error_ratio:.2g} of what quantization changes"
        )


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine, and why it is this one, in one line."""

    engine: Engine
    reason: str
    agreement: Agreement | None = None


@torch.no_grad()
def agreement(engine: Engine, reference: Engine, *, inputs: Tensor, policies: Sequence[PolicyBits]) -> Agreement:
    """Run the same inputs [n, ...] through two engines with each of the policies; outputs are compared as [n, rest].

    Each engine corrects a policy by what it finds itself, so that a difference there shows as well.
    """
    floats = reference.outputs(None)(inputs).flatten(1)
    differing, relative, ratio = 0, 0.0, 0.0
    for bits in policies:
        expected, found = (each.outputs(bits)(inputs).flatten(1) for each in (reference, engine))
        difference, change = found - expected, expected - floats
        differing += int((found.argmax(dim=1) != expected.argmax(dim=1)).sum())
        relative = max(relative, _ratio(difference.abs().max(), expected.abs().max()))
        ratio = max(ratio, _ratio(difference.norm(), torch.maximum(change.norm(), FLOAT_ROUNDING * expected.norm())))
    return Agreement(len(policies) * len(inputs), differing, relative, ratio)


def trial_policies(layers: int) -> list[PolicyBits]:
    """The policies that engines are compared with.

    >>> trial_policies(2)[-1]
    ((8, 6), (4, 8))
    """
    uniform = [((width,) * layers, (width,) * layers) for width in TRIAL_WIDTHS]
    widths = [TRIAL_WIDTHS[layer % len(TRIAL_WIDTHS)] for layer in range(layers)]
    shifted = [TRIAL_WIDTHS[(layer - 1) % len(TRIAL_WIDTHS)] for layer in range(layers)]
    return [*uniform, (tuple(widths), tuple(shifted))]


def choose_engine(
    name: EngineName,
    model: QuantizedModel,
    trace: Trace,
    *,
    reference: TorchEngine,
    inputs: Tensor,
    policies: Sequence[PolicyBits] = (),
) -> EngineChoice:
    """The engine that a name stands for; `auto` is onnxruntime where it runs the network and agrees with torch.

    `reference` is the torch engine; both are compared on `inputs` [n, ...] with `policies`, or `trial_policies` where
    none are given. Raises UserError where onnxruntime was asked for by name and does not run the network.
    """
    from haq.integer_graph import NotExportableError, OnnxEngine

    if name == "torch":
        return EngineChoice(reference, "torch was asked for")
    if not model.quantizers.in_integers:
        if name == "onnxruntime":
            raise UserError("--engine onnxruntime computes in integers, and codebooks are none; use --engine torch")
        return EngineChoice(reference, "torch, since codebooks are no integers")
    device = next(model.model.parameters()).device
    if device.type != "cpu" and name == "auto":
        return EngineChoice(reference, f"the network is on {device}, where torch is faster")
    try:
        engine = OnnxEngine(model, trace, inputs[:1], reference=reference)
        found = agreement(engine, reference, inputs=inputs, policies=policies or trial_policies(len(trace.layers)))
    except NotExportableError as error:
        if name == "onnxruntime":
            raise UserError(f"--engine onnxruntime: {error}") from error
        return EngineChoice(reference, f"torch, since {error.reason}")
    if name == "auto" and not found.is_close:
        return EngineChoice(reference, f"torch, since onnxruntime computes otherwise on this machine: {found}", found)
    return EngineChoice(engine, f"onnxruntime; compared with torch, {found}", found)


def _ratio(part: Tensor, whole: Tensor) -> float:
    """0 where both are 0, infinity where only the whole is."""
    if not part:
        return 0.0
    return float(part / whole)
