"""Decision in which codes every tensor of a network is stored.

A tensor that is read with one quantizer alone is stored in its codes. Others are stored with 8 bits; tables compute
from them what each reader needs. Steps that only move codes take over the quantizer of their readers.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from haq.exporters.integer.grids import Grid
from haq.exporters.integer.reading.functions import IDENTITY, Function
from haq.exporters.integer.reading.steps import (
    ConcatenationStep,
    ElementwiseStep,
    PoolStep,
    ProductStep,
    RearrangementStep,
    Step,
    Steps,
    Value,
    values_read_by,
)


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Quantizer of 8 bits that is calibrated on the values of a tensor.

    Attributes:
        tensor: Tensor of the ONNX graph.
        function: Function that is applied to its entries.
    """

    tensor: str
    function: Function


Choice = Grid | Calibrated
"""Grid of a tensor, known or to be calibrated."""


@dataclass(frozen=True, slots=True)
class Storage:
    """How a tensor is stored.

    Attributes:
        function: Clip that the step which writes the tensor applies.
        choice: Grid; None for that of the step's input.
    """

    function: Function
    choice: Choice | None


@dataclass(frozen=True, slots=True)
class StoragePlan:
    """Storage of all tensors, and what readers get.

    Attributes:
        stored: By tensor.
        read: By value: grid in which readers that do not ask for a certain one get it.
        wanted: By the output of a step: grids in which it reads its inputs; None for any of 8 bits.
    """

    stored: Mapping[str, Storage]
    read: Mapping[tuple[str, Function], Choice]
    wanted: Mapping[str, Choice | None]

    @property
    def calibrated(self) -> list[Calibrated]:
        """All quantizers to be calibrated."""
        choices = [*(each.choice for each in self.stored.values()), *self.read.values()]
        return list(dict.fromkeys(choice for choice in choices if isinstance(choice, Calibrated)))


def plan_storage(steps: Steps, layer_grids: Sequence[Grid]) -> StoragePlan:
    """Decide in which codes every tensor is stored.

    Args:
        steps: Steps of a network.
        layer_grids: Grid of the input of every layer.

    Returns:
        The decision.
    """
    planner = _Planner(steps, layer_grids)
    planner.demand(steps.output, None)
    for step in reversed(steps.steps):
        planner.plan(step)
    planner.decide(steps.input, can_clip=False)
    return StoragePlan(planner.stored, planner.read, planner.wanted)


@dataclass
class _Planner:
    """Demands of readers, from the last step to the first."""

    steps: Steps
    layer_grids: Sequence[Grid]
    stored: dict[str, Storage] = field(default_factory=dict)
    read: dict[tuple[str, Function], Choice] = field(default_factory=dict)
    wanted: dict[str, Choice | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._demands: defaultdict[str, dict[Function, list[Choice | None]]] = defaultdict(dict)
        self._sources = {step.output: step for step in self.steps.steps}

    def demand(self, value: Value, choice: Choice | None) -> None:
        """Note that a value is read.

        Args:
            value: The value.
            choice: Grid in which it is read; None for any of 8 bits.
        """
        self._demands[value.root].setdefault(value.function, []).append(choice)

    def plan(self, step: Step) -> None:
        """Decide the storage of a step's output, whose readers are known, and note what it reads."""
        storage = self.decide(step.output, can_clip=_can_clip(step), follows_input=_is_mean(step))
        if isinstance(step, ProductStep):
            choice: Choice | None = None if step.layer is None else self.layer_grids[step.layer]
        elif _moves_codes(step):
            choice = storage.choice
        else:
            choice = None
        self.wanted[step.output] = choice
        for value in values_read_by(step):
            self.demand(read_value(step, value, storage.function), choice)

    def decide(self, tensor: str, *, can_clip: bool, follows_input: bool = False) -> Storage:
        """Choose the grid of a tensor from the demands of its readers."""
        demands = self._demands[tensor] or {IDENTITY: [None]}
        function = IDENTITY
        if len(demands) == 1 and can_clip:
            (only,) = demands
            function = (
                only if only.bounds is not None and (only.keeps_zero or not self._adds_zeros(tensor)) else IDENTITY
            )
        choices = list(demands.get(function, ()))
        if len(demands) > 1 or function not in demands:
            choices.append(None)  # tables compute the other functions from it
        choice = None if follows_input else self._common(choices, tensor, function)
        self.stored[tensor] = Storage(function, choice)
        for other, wanted in demands.items():
            if other != function and None in wanted:
                self.read[tensor, other] = self._common(wanted, tensor, other)
        return self.stored[tensor]

    def _common(self, choices: list[Choice | None], tensor: str, function: Function) -> Choice:
        """Return the only choice, or else one of 8 bits."""
        different = list(dict.fromkeys(choices))
        if len(different) == 1 and different[0] is not None:
            return different[0]
        whole = (each for each in different if isinstance(each, Calibrated) or (each is not None and each.is_whole))
        return next(whole, None) or self._calibrated(tensor, function)

    def _adds_zeros(self, tensor: str) -> bool:
        step = self._sources.get(tensor)
        return isinstance(step, RearrangementStep) and step.operator == "pad"

    def _calibrated(self, tensor: str, function: Function) -> Calibrated:
        """Return a quantizer of a tensor; it is that of the tensor before a change of shape or added zeros."""
        step = self._sources.get(tensor)
        if isinstance(step, RearrangementStep) and step.operator != "subsample":
            return self._calibrated(step.source.root, step.source.function.then(function))
        return Calibrated(tensor, function)


def read_value(step: Step, value: Value, function: Function) -> Value:
    """Return what a step reads, given the clip of its output.

    Args:
        step: Step.
        value: One of its inputs.
        function: Clip of its output.

    Returns:
        The input, clipped before the step if this only moves codes.
    """
    return Value(value.root, value.function.then(function)) if _moves_codes(step) else Value(value.root, value.function)


def _moves_codes(step: Step) -> bool:
    """Return whether output codes are input codes, so that both have one grid, which the readers choose."""
    return isinstance(step, RearrangementStep | ConcatenationStep) or (
        isinstance(step, PoolStep) and step.operator == "max"
    )


def _is_mean(step: Step) -> bool:
    return isinstance(step, PoolStep) and step.operator == "average"


def _can_clip(step: Step) -> bool:
    """Return whether a clip of the output can be part of a step, or of what precedes it."""
    return isinstance(step, ProductStep | ElementwiseStep) or _moves_codes(step)
