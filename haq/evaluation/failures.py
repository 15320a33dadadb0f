"""Evaluations whose results are NaN or infinite, and the numbers that stand for them."""

from math import isfinite

from haq.evaluation.protocols import Evaluation
from haq.runs.records import MAX_MAGNITUDE
from haq.tasks.metrics import Metric

FAILED_ERROR = 10.0
"""Relative output error, and divergence in nats, that stand for those of a policy that failed. Outputs without any
relation to those of the float network have an error of about 1 to 2."""
FAILED_FACTOR = 10.0
"""Score without a lowest value: how many times its size a policy that failed is below the float network."""


def marked_if_failed(evaluation: Evaluation, *, metric: Metric, accuracy_fp32: float) -> Evaluation:
    """Return an evaluation, or one that is marked as failed if one of its numbers is NaN or infinite.

    Args:
        evaluation: The evaluation.
        metric: Metric of its score.
        accuracy_fp32: Score of the float network.

    Returns:
        The evaluation, or one with finite numbers that stand for a very bad policy.

    Examples:
        >>> from math import nan
        >>> from haq.tasks.metrics import ACCURACY
        >>> found = marked_if_failed(Evaluation(0.5, nan, nan), metric=ACCURACY, accuracy_fp32=0.9)
        >>> found.accuracy, found.noise, found.failure
        (0.0, 10.0, 'divergence nan, relative output error nan')
    """
    numbers = {
        metric.name: evaluation.accuracy,
        "divergence": evaluation.divergence,
        "relative output error": evaluation.noise,
    }
    wrong = [f"{name} {value}" for name, value in numbers.items() if not abs(value) <= MAX_MAGNITUDE]
    if not wrong:
        return evaluation
    lowest = metric.score(metric.low if metric.higher_is_better else metric.high)
    if not isfinite(lowest):
        lowest = accuracy_fp32 - FAILED_FACTOR * max(abs(accuracy_fp32), 1.0)
    return Evaluation(lowest, FAILED_ERROR, FAILED_ERROR, failure=", ".join(wrong))
