"""Float network on one split, run once for all evaluators that share a store."""

from dataclasses import dataclass

from haq.execution.structures import Structure, tensors
from haq.tasks.base import SplitName, Task

MEMORY_LIMIT_BYTES = 2**29
"""Size above which outputs are not stored: 13,000 positions of a vocabulary of 10,000."""


class StoredOutputs:
    """Outputs of a network for the batches of a split, up to a limit of memory.

    Attributes:
        outputs: Outputs for each batch, in order; None if they take more than the limit.
    """

    def __init__(self) -> None:
        self.outputs: list[Structure] | None = []
        self._bytes = 0

    def add(self, outputs: Structure) -> None:
        """Add the outputs for a batch, or drop all if they take more than the limit together.

        Args:
            outputs: Outputs of the network.
        """
        self._bytes += sum(tensor.nbytes for tensor in tensors(outputs))
        if self._bytes > MEMORY_LIMIT_BYTES:
            self.outputs = None
        if self.outputs is not None:
            self.outputs.append(outputs)


@dataclass(frozen=True, slots=True, eq=False)
class FloatRun:
    """Score and outputs of the float network on one split.

    Attributes:
        engine: Engine that ran the network.
        task: Task with the split.
        split: Name of the split.
        batch_size: Number of items of a batch.
        score: Score of the network.
        outputs: Outputs for each batch, in order; None if they are too large to be stored.
        digest: Hash of inputs, targets and outputs.
    """

    engine: object
    task: Task
    split: SplitName
    batch_size: int
    score: float
    outputs: list[Structure] | None
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
