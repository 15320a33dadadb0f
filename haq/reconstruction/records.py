"""Summary of a reconstruction."""

from haq.policy import CostSummary
from haq.runs.records import Amount, Count, Finite, Metric, StoredRecord


class Summary(StoredRecord):
    """Result of a reconstruction.

    Accuracies are the task's score: of the reconstructed policy, or of the float network in fields with `fp32`, on the
    report split unless the field names the search split. Divergences are means over items, in nats for classification.
    Fields that end in `start` are those of the policy before learning.

    `model_dump(mode="json")` gives the document of `summary.json`, which `haq reconstruct --json` prints.
    """

    metric: Metric
    accuracy_fp32: Finite
    accuracy: Finite
    divergence: Finite
    search_accuracy_fp32: Finite
    search_accuracy: Finite
    search_divergence: Finite
    report_images: Count
    search_images: Count
    calibration_images: Count
    engine: str
    """Reason for the choice of the engine that measured the policy."""
    cost: CostSummary
    baseline_cost: CostSummary
    search_accuracy_start: Finite
    search_divergence_start: Finite
    seconds: Amount
