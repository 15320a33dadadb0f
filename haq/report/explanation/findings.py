"""What `haq explain` finds: frozen values, in units that people read."""

from dataclasses import asdict, dataclass
from typing import Any

from haq.report.explanation.robustness import CostNoise, Recalibrated
from hardware_sim.cost import Objective


@dataclass(frozen=True, slots=True)
class Belief:
    """What the reward model thinks of the policy, in `unit` above the float network on the search split."""

    unit: str
    """`points` of accuracy, or `reward` where it is made of something else."""
    policies: int
    """How many different policies it learned from."""
    measured: float
    predicted: float
    low: float
    """One standard deviation below; `high` as much above."""
    high: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """What a reward that is no accuracy went with, in the policies of a run that are near its winner."""

    points: float
    """Of search accuracy, for a reward of 1."""
    policies: int
    """How many different policies say so."""


@dataclass(frozen=True, slots=True)
class Distance:
    """How much better a policy within the budget can be, as the reward model's additive terms have it, in its unit.

    Every draw of the terms is held against its own best policy, so that draws lie rather above what is most probable.
    """

    bound: float
    """At the most probable terms no policy gains more: the relaxed program's."""
    low: float
    """The same for terms drawn from what the model believes: a tenth of the draws lies below."""
    high: float
    """A tenth of the draws lies above."""
    integer: float
    """What the best policy would gain, whose bits are whole."""
    differs: tuple[str, ...]
    """The layers in which it has other bits."""


@dataclass(frozen=True, slots=True)
class Step:
    """Other bits for one layer, the rest as it is."""

    layer: str
    w_bits: tuple[int, int]
    """Before and after."""
    a_bits: tuple[int, int]
    cost: float
    """What the objective pays more, in SI units; negative for savings."""
    gain: float
    """What the reward model believes to win, in its unit; negative for losses."""
    fits: bool
    """Whether it is within every budget."""


@dataclass(frozen=True, slots=True)
class Price:
    """What the objective's budget is worth at the margin."""

    objective: Objective
    budget: float
    cost: float
    """Both in SI units."""
    percent: float
    """What one percent more of the budget wins in the relaxed program, in the reward model's unit."""
    upgrade: Step | None
    """More bits that win most for what they cost; None where no more can be had."""
    saving: Step | None
    """Fewer bits that lose least for what they save; None where nothing can be saved."""


@dataclass(frozen=True, slots=True)
class Plateau:
    """A layer whose cost stays the same when its bits change."""

    layer: str
    bits: tuple[int, int]
    """Weights and activations, as they are."""
    most: tuple[int, int]
    """No budget and no limit of the device pays more for these."""
    least: tuple[int, int]
    """And none pays less for these."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything that `haq explain` says of a run."""

    model: str
    hardware: str
    belief: Belief
    exchange: Exchange | None
    """None where the reward is accuracy, or accuracy does not follow it."""
    distance: Distance
    price: Price
    free: tuple[Plateau, ...]
    cost_noise: tuple[CostNoise, ...]
    """One for every budget of a cost that a device only models."""
    calibration: Recalibrated | None
    """None where nobody asked."""
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)
