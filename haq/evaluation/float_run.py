"""Float network on one split, run once for all evaluators that share a store."""

from dataclasses import dataclass

from haq.execution.structures import Structure
from haq.tasks.base import SplitName, Task


@dataclass(frozen=True, slots=True, eq=False)
class FloatRun:
    """Score and outputs of the float network on one split.

    Attributes:
        engine: Engine that ran the network.
        task: Task with the split.
        split: Name of the split.
        batch_size: Number of items of a batch.
        score: Score of the network.
        outputs: Outputs for each batch, in order.
        digest: Hash of inputs, targets and outputs.
    """

    engine: object
    task: Task
    split: SplitName
    batch_size: int
    score: float
    outputs: list[Structure]
    digest: bytes


class FloatRuns:
    """Runs of float networks in this process, kept for as long as this object exists."""

    def __init__(self) -> None:
        self._runs: list[FloatRun] = []

    def find(self, engine: object, task: Task, split: SplitName, *, batch_size: int) -> FloatRun | None:
        """Return the run of the same engine on the same split, if there is one.

        Args:
            engine: Engine that runs the network; compared by identity.
            task: Task with the split; compared by identity.
            split: Name of the split.
            batch_size: Number of items of a batch.

        Returns:
            The run, or None.
        """
        wanted = (split, batch_size)
        return next(
            (
                run
                for run in self._runs
                if run.engine is engine and run.task is task and (run.split, run.batch_size) == wanted
            ),
            None,
        )

    def add(self, run: FloatRun) -> None:
        """Add a run.

        Args:
            run: Run of a float network.
        """
        self._runs.append(run)
