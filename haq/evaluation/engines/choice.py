"""Which engine evaluates policies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from haq.config import EngineName
from haq.errors import UserError
from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.pieces import piece_sizes
from haq.evaluation.protocols import Engine
from haq.network.layers import Trace
from haq.policy import PolicyBits
from haq.quantization.quantized_model import QuantizedModel

if TYPE_CHECKING:  # both import the exporter, which takes seconds
    from haq.evaluation.engines.agreement import Agreement
    from haq.evaluation.engines.onnxruntime import OnnxEngine

TRIAL_WIDTHS = (8, 6, 4)
"""Where no others are given, engines are compared at the first and the last of these in all layers, and with all of
them in turn."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What engines are compared on: inputs [n, ...], policies, and batches of other sizes that a search will run."""

    inputs: Tensor
    policies: Sequence[PolicyBits] = ()
    batches: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """An engine, and why it is this one, in one line."""

    engine: Engine
    reason: str


def trial_policies(layers: int) -> list[PolicyBits]:
    """The policies that engines are compared with.

    >>> trial_policies(2)[-1]
    ((8, 6), (4, 8))
    """
    uniform = [((width,) * layers, (width,) * layers) for width in (TRIAL_WIDTHS[0], TRIAL_WIDTHS[-1])]
    widths = [TRIAL_WIDTHS[layer % len(TRIAL_WIDTHS)] for layer in range(layers)]
    shifted = [TRIAL_WIDTHS[(layer - 1) % len(TRIAL_WIDTHS)] for layer in range(layers)]
    return [*uniform, (tuple(widths), tuple(shifted))]


def choose_engine(
    name: EngineName, model: QuantizedModel, trace: Trace, *, reference: TorchEngine, trial: Trial
) -> EngineChoice:
    """The engine that a name stands for; `auto` is onnxruntime where it runs the network and agrees with torch.

    `reference` is the torch engine; both are compared with the policies of the trial, or `trial_policies` where it has
    none. Raises UserError where onnxruntime was asked for by name and does not run the network.
    """
    from haq.evaluation.engines.onnxruntime import NotExportableError

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
        engine, found = _tried(model, trace, reference=reference, trial=trial)
    except NotExportableError as error:
        if name == "onnxruntime":
            raise UserError(f"--engine onnxruntime: {error}") from error
        return EngineChoice(reference, f"torch, since {error.reason}")
    return _decided(name, engine, found, reference=reference)


def _decided(name: EngineName, engine: "OnnxEngine", found: "Agreement", *, reference: TorchEngine) -> EngineChoice:
    """What `auto` and `onnxruntime` stand for after a comparison."""
    if found.is_close:
        return EngineChoice(engine, f"onnxruntime: {found}")
    if name == "onnxruntime":
        return EngineChoice(engine, f"onnxruntime, as requested, although it differs from torch: {found}")
    return EngineChoice(reference, f"torch, since onnxruntime computes different results on this machine: {found}")


def _tried(
    model: QuantizedModel, trace: Trace, *, reference: TorchEngine, trial: Trial
) -> "tuple[OnnxEngine, Agreement]":
    """onnxruntime's engine, compared with torch. Raises NotExportableError where it does not run the network."""
    from haq.evaluation.engines.agreement import Engines
    from haq.evaluation.engines.onnxruntime import NotExportableError, OnnxEngine

    engine = OnnxEngine(model, trace, trial.inputs[:1], reference=reference)
    floats = engine.outputs(None)
    for size in piece_sizes(trial.inputs, trial.batches):
        answered = len(floats(trial.inputs[torch.arange(size) % len(trial.inputs)]))
        if answered != size:
            raise NotExportableError(f"in onnxruntime {size} items have {answered} outputs")
    policies = trial.policies or trial_policies(len(trace.layers))
    return engine, Engines(engine, reference, trace).compare(trial.inputs, policies)
