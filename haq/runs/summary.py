"""Records in `summary.json` of a finished search, and what the summaries of workflows that learn share."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from haq.layer_bits import Width
from haq.policy import CostSummary
from haq.runs.records import Amount, Count, Finite, Fraction, Metric, Positive, StoredRecord
from hardware_sim.cost import Objective

_ROUNDING = 1e-9
"""Relative tolerance of sums: the same sum in another order is not over the budget."""
EndedBy = Literal["episodes", "time", "least cost", "one policy"]
"""Reason for the end of a search: the number of episodes; the time limit; a policy of the least possible cost met the
goal; there is only one policy."""


class _Part(StoredRecord):
    """Part of the summary; keys of other versions are kept."""

    model_config = ConfigDict(extra="allow")


class BudgetLimit(_Part):
    """Budget: `value` in SI units, `ratio` as a fraction of the 8-bit cost."""

    objective: Objective
    value: Positive
    ratio: Positive


class Interval(_Part):
    """Confidence interval of an accuracy."""

    low: Fraction
    high: Fraction
    confidence: Fraction
    method: str


class Winner(_Part):
    """Episode whose policy was selected."""

    episode: Count


class Finalist(_Part):
    """Policy that was measured on the selection split."""

    episode: Count
    cost: Amount | None = None
    search_accuracy: Finite | None = None
    selection_accuracy: Finite | None = None


class UniformResult(_Part):
    """Cost and report accuracy of the same bits in every layer that is not pinned."""

    w_bits: Width
    a_bits: Width
    cost: CostSummary
    cost_ratio: Amount
    accuracy: Finite
    interval: Interval | None = None
    noise: Amount | None = None
    """Relative output error, 1/SQNR; see `Episode.noise`."""


class PairedCounts(_Part):
    """Numbers of images that only one of a policy and the float network classifies right."""

    lost: Count
    won: Count
    images: Count


class AccuracyDrop(_Part):
    """Accuracy lost by the policy of a search with `max_accuracy_drop`, all as fractions.

    `confidence` maps splits to the confidence that the true loss is at most `limit`. `confidence_reached` is that of
    the search and selection images together; the search requires `confidence_required`.
    """

    limit: Fraction
    search: Finite
    selection: Finite | None = None
    report: Finite | None = None
    confidence: dict[str, Fraction]
    paired: dict[str, PairedCounts] = Field(default_factory=dict)
    confidence_required: Fraction | None = None
    confidence_reached: Fraction | None = None
    method: str | None = None


class Summary(_Part):
    """Result of a finished search.

    Accuracies are the task's score: of the policy, or of the float network in fields with `fp32`; on the report split
    unless the field names another. Costs are of the hardware's whole batch, in SI units.

    `model_dump(mode="json")` gives the document of `summary.json`, which `haq search --json` prints.
    """

    metric: Metric
    accuracy_fp32: Finite
    interval_fp32: Interval | None = None
    accuracy: Finite
    interval: Interval | None = None
    noise: Amount | None = None
    """Relative output error on the report split, 1/SQNR; see `Episode.noise`."""
    search_accuracy: Finite
    search_accuracy_fp32: Finite | None = None
    selection_accuracy: Finite | None = None
    selection_accuracy_fp32: Finite | None = None
    optimism_gap: Finite | None = None
    """Accuracy on the search split minus the accuracy on the report split."""
    report_images: Count
    search_images: Count
    selection_images: Count = 0
    winner: Winner | None = None
    finalists: tuple[Finalist, ...] = ()
    """In the order of the search split; empty without a selection split."""
    cost: CostSummary
    baseline_cost: CostSummary
    cost_ratio: Amount
    """Ratio of the objective's cost to that of uniform 8 bits."""
    budget: Annotated[tuple[BudgetLimit, ...], Field(min_length=1)]
    objective: Objective
    notes: tuple[str, ...] = ()
    uniform: tuple[UniformResult, ...]
    episodes: Count
    ended_by: EndedBy = "episodes"
    evaluations: Count
    """Number of distinct policies that were evaluated."""
    forward_images: Count
    """Number of images that ran through the network, for the prior too but not for the report."""
    warnings: tuple[str, ...]
    max_accuracy_drop: AccuracyDrop | None = None
    """Present only in a search with `max_accuracy_drop`."""
    seconds: Amount

    @property
    def best_uniform(self) -> UniformResult | None:
        """Uniform bits with the highest report score at a cost within the budget; None if none are within it."""
        limit = self.budget[0].ratio * (1 + _ROUNDING)
        within = [each for each in self.uniform if each.cost_ratio <= limit]
        return max(within, key=lambda each: each.accuracy, default=None)


class LearnedSummary(StoredRecord):
    """Scores that the summaries of a fine-tuning and of a reconstruction share.

    Accuracies are the task's score: of the network after learning, or of the float network in fields with `fp32`, on
    the report split unless the field names the search split.
    """

    metric: Metric
    accuracy_fp32: Finite
    accuracy: Finite
    search_accuracy_fp32: Finite
    search_accuracy: Finite
    search_accuracy_start: Finite
    """Score of the quantized network before the first step."""
    report_images: Count
    search_images: Count
