"""Registry of the engines that evaluate policies."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import torch

from haq.config import SearchConfig
from haq.errors import UserError
from haq.evaluation.chunks import chunk_size, chunk_sizes
from haq.evaluation.engines.agreement import Agreement
from haq.evaluation.engines.episode_finetuning import episode_engine
from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.protocols import Engine
from haq.execution.structures import Structure, item_count, take, tensors
from haq.network.layers import Trace
from haq.policy import PolicyBits
from haq.quantization.quantized_model import QuantizedModel
from haq.settings import EngineName
from haq.tasks.base import Task
from haq.tasks.optional import PredictingTask

if TYPE_CHECKING:  # imports the exporter, which takes seconds
    from haq.evaluation.engines.onnxruntime import OnnxEngine

COMPARISON_WIDTHS = (8, 6, 4)
"""Bit widths of the default comparison of engines: the first and the last in all layers, and all alternating."""

COMPARISON_VALUES = 2**21
"""Number of input values on which engines are compared, and corrections of the comparison computed: 13 images of
224x224, or all images if they are small."""


class UnsuitableError(Exception):
    """Error: an engine cannot evaluate a network, or should not unless it is requested by name.

    Args:
        reason: Reason to choose another engine, in one line.
        message: Message for users who requested this engine; `reason` if empty.

    Attributes:
        reason: Reason to choose another engine, in one line.
        message: Message for users who requested this engine.
    """

    def __init__(self, reason: str, message: str = "") -> None:
        super().__init__(reason)
        self.reason, self.message = reason, message or reason


@dataclass(frozen=True, slots=True)
class ComparisonData:
    """Inputs and policies on which engines are compared.

    Attributes:
        inputs: A batch of inputs, [n, ...].
        policies: Policies; those of `comparison_policies` if empty.
        batches: Sizes of the batches that will be run.
    """

    inputs: Structure
    policies: Sequence[PolicyBits] = ()
    batches: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EngineInputs:
    """Arguments of the functions that create engines.

    Attributes:
        quantized: Quantized network.
        trace: Its trace.
        reference: Engine in torch, with which others are compared.
        comparison: Inputs and policies of the comparison.
        is_requested: Whether the engine was requested by name, not tried by `auto`.
        config: Configuration of the search; required by engines that train.
        task: Task of the network; required by engines that train.
    """

    quantized: QuantizedModel
    trace: Trace
    reference: TorchEngine
    comparison: ComparisonData
    is_requested: bool = True
    config: SearchConfig | None = None
    task: Task | None = None


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """Engine and the reason for choosing it.

    Attributes:
        engine: The engine.
        reason: Reason in one line, for the log of a run.
    """

    engine: Engine
    reason: str


def comparison_policies(layers: int) -> list[PolicyBits]:
    """Return the policies with which engines are compared by default.

    Args:
        layers: Number of layers.

    Returns:
        (w_bits, a_bits) of three policies: two uniform ones and a mixed one.

    Examples:
        >>> comparison_policies(2)[-1]
        ((8, 6), (4, 8))
    """
    widths = COMPARISON_WIDTHS
    uniform = [((width,) * layers, (width,) * layers) for width in (widths[0], widths[-1])]
    mixed = tuple(widths[layer % len(widths)] for layer in range(layers))
    shifted = tuple(widths[(layer - 1) % len(widths)] for layer in range(layers))
    return [*uniform, (mixed, shifted)]


def _torch(inputs: EngineInputs) -> EngineChoice:
    return EngineChoice(inputs.reference, "torch was asked for")


def _onnxruntime(inputs: EngineInputs) -> EngineChoice:
    """Create the engine in onnxruntime; unless it was requested by name, it has to agree with torch."""
    from haq.evaluation.engines.onnxruntime import NotExportableError

    if not inputs.quantized.quantizers.in_integers:
        message = "--engine onnxruntime computes in integers, and codebooks are none; use --engine torch"
        raise UnsuitableError("codebooks are no integers", message)
    device = next(inputs.quantized.model.parameters()).device
    if device.type != "cpu" and not inputs.is_requested:
        raise UnsuitableError(f"the network is on {device}, where it is faster")
    try:
        engine, found = _compared(inputs)
    except NotExportableError as error:
        raise UnsuitableError(error.reason, f"--engine onnxruntime: {error}") from error
    if found.is_close:
        return EngineChoice(engine, f"onnxruntime: {found}")
    if not inputs.is_requested:
        raise UnsuitableError(f"onnxruntime computes different results on this machine: {found}")
    return EngineChoice(engine, f"onnxruntime, as requested, although it differs from torch: {found}")


def _episodes(inputs: EngineInputs) -> EngineChoice:
    assert inputs.config is not None, "settings of the training"
    assert inputs.task is not None, "data to train on"
    engine = episode_engine(inputs.config, inputs.quantized.model, inputs.trace, task=inputs.task)
    return EngineChoice(engine, "torch, as every policy is fine-tuned before it is evaluated")


EngineKey = Literal["torch", "onnxruntime", "episodes"]
"""Keys of `ENGINES`."""
ENGINES: Mapping[EngineKey, Callable[[EngineInputs], EngineChoice]] = {
    "torch": _torch,
    "onnxruntime": _onnxruntime,
    "episodes": _episodes,
}
"""Engines by name, as functions that create them or raise UnsuitableError."""
AUTO: tuple[EngineKey, ...] = ("onnxruntime",)
"""Engines that `auto` tries, in order, before torch."""


def choose_engine(name: EngineName | EngineKey, inputs: EngineInputs) -> EngineChoice:
    """Create the engine of a name.

    Args:
        name: Key of `ENGINES`, or `auto` for the first of `AUTO` that suits the network, else torch.
        inputs: Arguments of the function that creates it.

    Returns:
        The engine, and the reason for it.

    Raises:
        UserError: The engine was requested by name and cannot run the network.
    """
    if name != "auto":
        try:
            return ENGINES[name](inputs)
        except UnsuitableError as error:
            raise UserError(error.message) from error
    reasons = []
    for candidate in AUTO:
        try:
            return ENGINES[candidate](replace(inputs, is_requested=False))
        except UnsuitableError as error:
            reasons.append(error.reason)
    return EngineChoice(inputs.reference, f"torch, since {'; '.join(reasons)}")


def _compared(inputs: EngineInputs) -> "tuple[OnnxEngine, Agreement]":
    """Create the engine in onnxruntime and compare it with torch.

    Raises:
        NotExportableError: The engine cannot run the network.
    """
    from haq.evaluation.engines.comparison import EnginePair
    from haq.evaluation.engines.onnxruntime import NotExportableError, OnnxEngine

    data, trace = inputs.comparison, inputs.trace
    engine = OnnxEngine(inputs.quantized, trace, take(data.inputs, slice(1)), reference=inputs.reference)
    run, count = engine.runner(None), item_count(data.inputs)
    for size in chunk_sizes(data.inputs, data.batches):
        outputs = run(take(data.inputs, torch.arange(size) % count))
        sizes = {len(tensor) for tensor in tensors(outputs)}
        if sizes != {size}:
            raise NotExportableError(f"in onnxruntime {size} items have {', '.join(map(str, sizes))} outputs")
    policies = data.policies or comparison_policies(len(trace.layers))
    few = chunk_size(data.inputs, COMPARISON_VALUES)
    reference = inputs.reference.with_images(few)
    pair = EnginePair(engine.with_reference(reference), reference, trace)
    if isinstance(inputs.task, PredictingTask):
        pair = replace(pair, same_predictions=inputs.task.same_predictions)
    return engine, pair.compare(take(data.inputs, slice(few)), policies)
