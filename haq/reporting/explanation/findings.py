"""Findings of `haq explain`, in the units that it prints."""

from dataclasses import asdict, dataclass
from typing import Any

from haq.reporting.explanation.robustness import CostNoise, Recalibrated
from haq.tasks.metrics import Metric
from hardware_sim.cost import Objective


@dataclass(frozen=True, slots=True)
class Belief:
    """Prediction of the reward model for the policy, relative to the float network on the search split.

    Attributes:
        unit: Unit of the values: `points` of accuracy, or `reward` if the reward is not accuracy.
        policies: Number of different policies that the model is fitted to.
        measured: Measured value.
        predicted: Predicted value.
        low: Value one standard deviation below the prediction.
        high: Value one standard deviation above the prediction.
    """

    unit: str
    policies: int
    measured: float
    predicted: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Exchange:
    """Change of accuracy per reward, in the policies of a run that are close to its winner.

    Attributes:
        points: Points of search accuracy for a reward of 1.
        policies: Number of different policies that the ratio is fitted to.
    """

    points: float
    policies: int


@dataclass(frozen=True, slots=True)
class Distance:
    """Gain of other policies within the budget, predicted by the additive terms of the reward model, in its unit.

    Each sample of the terms is compared with its own best policy; therefore most samples lie above the gain at the most
    probable terms.

    Attributes:
        bound: Largest gain of any policy at the most probable terms, from the relaxed program.
        low: Tenth percentile of the bound for terms drawn from the model's posterior.
        high: Ninetieth percentile of the bound for these terms.
        integer: Gain of the best policy of whole bits at the most probable terms.
        differs: Layers in which the best policy of whole bits has other bits.
    """

    bound: float
    low: float
    high: float
    integer: float
    differs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """Change of the bits of one layer.

    Attributes:
        layer: Name of the layer.
        w_bits: Bits of the weights before and after the change.
        a_bits: Bits of the input activations before and after the change.
        cost: Additional cost in the objective, in SI units; negative for savings.
        gain: Gain by the reward model, in its unit; negative for losses.
        fits: Whether the changed policy is within every budget.
    """

    layer: str
    w_bits: tuple[int, int]
    a_bits: tuple[int, int]
    cost: float
    gain: float
    fits: bool


@dataclass(frozen=True, slots=True)
class Price:
    """Marginal value of the objective's budget.

    Attributes:
        objective: The objective.
        budget: Budget, in SI units.
        cost: Cost of the policy, in SI units.
        percent: Gain from one percent more budget in the relaxed program, in the reward model's unit.
        upgrade: Change to more bits with the largest gain per cost; None if no such change gains.
        saving: Change to fewer bits with the least loss per cost saved; None if nothing can be saved.
    """

    objective: Objective
    budget: float
    cost: float
    percent: float
    upgrade: Step | None
    saving: Step | None


@dataclass(frozen=True, slots=True)
class Plateau:
    """Layer whose cost stays the same for other bits.

    Attributes:
        layer: Name of the layer.
        bits: Bits of weights and activations in the policy.
        most: Most bits that cost no more in any budget or limit of the device.
        least: Fewest bits that save nothing in any budget or limit of the device.
    """

    layer: str
    bits: tuple[int, int]
    most: tuple[int, int]
    least: tuple[int, int]


@dataclass(frozen=True, slots=True)
class EndCost:
    """What the bits of the first layer, or of a layer whose outputs are those of the network, cost.

    Attributes:
        layer: Name of the layer.
        bits: Bits of weights and activations in the policy.
        cost: Cost of the layer in the objective, in SI units.
        share: Its share in the cost of the policy.
        least: Its cost at the fewest bits of the search, in SI units.
    """

    layer: str
    bits: tuple[int, int]
    cost: float
    share: float
    least: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """All findings on a run.

    Attributes:
        model: Name of the network.
        hardware: Name of the device.
        metric: Metric of the scores.
        belief: Measured and predicted reward of the policy.
        exchange: Accuracy per reward; None if the reward is accuracy, or accuracy does not correlate with it.
        distance: Gain of other policies within the budget.
        price: Marginal value of the budget.
        free: Layers with other bits at the same cost.
        ends: Costs of the first layer, and of the last layer of each head.
        cost_noise: Robustness to errors of the costs; one for every budget of a cost that the device models.
        calibration: Robustness to other calibration images; None without `is_robust`.
        notes: Remarks that qualify the numbers.
    """

    model: str
    hardware: str
    metric: Metric
    belief: Belief
    exchange: Exchange | None
    distance: Distance
    price: Price
    free: tuple[Plateau, ...]
    ends: tuple[EndCost, ...]
    cost_noise: tuple[CostNoise, ...]
    calibration: Recalibrated | None
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the findings as JSON values; of the metric, the name."""
        return {**asdict(self), "metric": self.metric.name}
