"""Checkpoints of a reconstruction in progress."""

from collections.abc import Mapping
from time import monotonic
from typing import Any

from haq.reconstruction.learning import Reconstruction
from haq.runs.records import Amount, Count, Record, damage_named, same_settings
from haq.runs.run_folder import CHECKPOINT, RunFolder

CHECKPOINT_SECONDS = 10.0
"""Time between checkpoints, about the most work that an interruption loses; it has no effect on results."""


class LearningState(Record):
    """State of learning, as `Reconstruction.state_dict` returns it."""

    steps: Count
    parameters: dict[str, Any]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    sizes: dict[int, float]
    compared: list[int]


class Checkpoint(Record):
    """Content of `checkpoint.pt`.

    Attributes:
        run: Settings and network that it belongs to, as text.
        seconds: Time that the reconstruction has taken.
        learning: State of learning.
    """

    run: str
    seconds: Amount
    learning: LearningState


class Checkpoints:
    """Writer and reader of the checkpoint of one reconstruction.

    Args:
        run: Folder of the run.
        identity: Settings and network that a checkpoint belongs to, as JSON text.
        began: Time, by `monotonic`, at which this session started.
    """

    def __init__(self, run: RunFolder, identity: str, *, began: float) -> None:
        self._run, self._identity, self._began = run, identity, began
        self._seconds_before, self._saved = 0.0, monotonic()

    @property
    def seconds(self) -> float:
        """Duration of the reconstruction in seconds, earlier sessions included."""
        return self._seconds_before + monotonic() - self._began

    def restore(self, learning: Reconstruction) -> None:
        """Restore the state of the last checkpoint, if there is one of this reconstruction.

        Args:
            learning: Learning that has not begun.

        Raises:
            UserError: The checkpoint is damaged.
        """
        state = self._run.load_checkpoint()
        if state is None or not same_settings(state.get("run"), self._identity):
            return
        remedy = "delete it to start this reconstruction again"
        with damage_named(self._run.path / CHECKPOINT, remedy=remedy):
            checkpoint = Checkpoint.model_validate(state)
            learning.load_state_dict(dict(checkpoint.learning))
        self._seconds_before = checkpoint.seconds

    def save_if_due(self, learning: Reconstruction) -> None:
        """Write a checkpoint if the last one is older than `CHECKPOINT_SECONDS`.

        Args:
            learning: Learning after a step.
        """
        if monotonic() - self._saved > CHECKPOINT_SECONDS:
            self.save(learning)

    def save(self, learning: Reconstruction) -> None:
        """Write a checkpoint.

        Args:
            learning: Learning after a step.
        """
        state: Mapping[str, Any] = {"run": self._identity, "seconds": self.seconds, "learning": learning.state_dict()}
        self._run.save_checkpoint(state)
        self._saved = monotonic()

    def remove(self) -> None:
        """Remove the checkpoint of a finished reconstruction."""
        (self._run.path / CHECKPOINT).unlink(missing_ok=True)
