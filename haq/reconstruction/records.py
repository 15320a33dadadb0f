"""Summary of a reconstruction."""

from haq.policy import CostSummary
from haq.runs.records import Amount, Count, Finite
from haq.runs.summary import LearnedSummary


class Summary(LearnedSummary):
    """Result of a reconstruction.

    Divergences are means over items, in nats for classification. Fields that end in `start` are those of the policy
    before learning, measured in torch.

    `model_dump(mode="json")` gives the document of `summary.json`, which `haq reconstruct --json` prints.
    """

    divergence: Finite
    search_divergence: Finite
    search_divergence_start: Finite
    calibration_images: Count
    engine: str
    """Reason for the choice of the engine that measured the policy."""
    cost: CostSummary
    baseline_cost: CostSummary
    seconds: Amount
