"""Score of a network on one split, with the further values that the meter of its task knows."""

from collections.abc import Mapping
from dataclasses import dataclass

from haq.errors import FailedEvaluationError, UserError
from haq.evaluation.protocols import Engine
from haq.execution.structures import tensors
from haq.policy import PolicyBits
from haq.tasks.base import SplitName, Task
from haq.tasks.metrics import DetailedMeter
from haq.tasks.predictions import predictions


@dataclass(frozen=True, slots=True)
class DetailedScore:
    """Score of a network on one split, with further values.

    Attributes:
        score: Score in the metric of the task; higher is better.
        details: Further values by name, such as `ap50` of a detector.
    """

    score: float
    details: Mapping[str, float]


def detailed_score(
    engine: Engine, task: Task, bits: PolicyBits | None, split: SplitName, *, batch_size: int
) -> DetailedScore:
    """Run a network on a split.

    Args:
        engine: Engine that runs it.
        task: Task with the data and the metric.
        bits: (w_bits, a_bits) of every layer; None for the float network.
        split: Name of the split; it is not empty.
        batch_size: Number of items of a batch.

    Returns:
        Its score and details.

    Raises:
        FailedEvaluationError: Outputs of the policy are not finite.
        UserError: Outputs of the float network are not finite, or items cannot be read.
    """
    meter = task.meter()
    for each in predictions(engine.runner(bits), task, split, batch_size=batch_size):
        if not all(tensor.isfinite().all() for tensor in tensors(each.outputs)):
            problem = f"outputs on the {split} split hold NaN or infinity"
            if bits is None:
                raise UserError(f"the float network's {problem}")
            raise FailedEvaluationError(f"the policy fails: its {problem}")
        meter.update(each.outputs, each.targets)
    return DetailedScore(
        task.metric.score(meter.compute()), meter.details() if isinstance(meter, DetailedMeter) else {}
    )
