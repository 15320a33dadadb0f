"""Findings of `haq explain`, in the units that it prints."""

from dataclasses import asdict, dataclass
from typing import Any

from haq.report.explanation.robustness import CostNoise, Recalibrated
from hardware_sim.cost import Objective


@dataclass(frozen=True, slots=True)
class Belief:
    """Prediction of the reward model for the policy, in `unit` above the float network on the search split."""

    unit: str
    """`points` of accuracy, or `reward` where the reward is made of something else."""
    policies: int
    """Number of different policies that the model is fitted to."""
    measured: float
    predicted: float
    low: float
    """One standard deviation below the prediction; `high` is one above."""
    high: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """Change of accuracy per reward, in the policies of a run that are close to its winner."""

    points: float
    """Points of search accuracy for a reward of 1."""
    policies: int
    """Number of different policies that this is fitted to."""


@dataclass(frozen=True, slots=True)
class Distance:
    """Gain of other policies within the budget, predicted by the additive terms of the reward model, in its unit.

    Each sample of the terms is compared with its own best policy; therefore most samples lie above the gain at the most
    probable terms.
    """

    bound: float
    """Largest gain of any policy at the most probable terms, from the relaxed program."""
    low: float
    """Tenth percentile of the bound for terms drawn from the model's posterior."""
    high: float
    """Ninetieth percentile of it."""
    integer: float
    """Gain of the best policy of whole bits at the most probable terms."""
    differs: tuple[str, ...]
    """Layers in which that policy has other bits."""


@dataclass(frozen=True, slots=True)
class Step:
    """Change of the bits of one layer."""

    layer: str
    w_bits: tuple[int, int]
    """Before and after."""
    a_bits: tuple[int, int]
    cost: float
    """Additional cost in the objective, in SI units; negative for savings."""
    gain: float
    """Gain by the reward model, in its unit; negative for losses."""
    fits: bool
    """Whether the changed policy is within every budget."""


@dataclass(frozen=True, slots=True)
class Price:
    """Marginal value of the objective's budget."""

    objective: Objective
    budget: float
    cost: float
    """Both in SI units."""
    percent: float
    """Gain from one percent more budget in the relaxed program, in the reward model's unit."""
    upgrade: Step | None
    """Change to more bits with the largest gain per cost; None if no layer can have more."""
    saving: Step | None
    """Change to fewer bits with the least loss per cost saved; None if nothing can be saved."""


@dataclass(frozen=True, slots=True)
class Plateau:
    """Layer whose cost stays the same for other bits."""

    layer: str
    bits: tuple[int, int]
    """Bits of weights and activations in the policy."""
    most: tuple[int, int]
    """Most bits that cost no more in any budget or limit of the device."""
    least: tuple[int, int]
    """Fewest bits that save nothing in any of them."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """All findings on a run."""

    model: str
    hardware: str
    belief: Belief
    exchange: Exchange | None
    """None if the reward is accuracy, or accuracy does not follow it."""
    distance: Distance
    price: Price
    free: tuple[Plateau, ...]
    cost_noise: tuple[CostNoise, ...]
    """One for every budget of a cost that the device models."""
    calibration: Recalibrated | None
    """None without `is_robust`."""
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the findings as JSON values."""
        return asdict(self)
