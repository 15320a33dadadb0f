"""Files that only a fine-tuning run has: the journal of epochs, the checkpoint and the summary."""

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict

from haq.errors import UserError
from haq.policy import CostSummary
from haq.runs.journal import Journal
from haq.runs.records import Amount, Count, Finite, Record
from haq.runs.run_folder import RunFolder
from haq.runs.summary import LearnedSummary

JOURNAL, CURVE = "epochs.jsonl", "learning_curve.png"
REMEDY = "delete this line and all after it to train these epochs again"
Json = Mapping[str, Any]


class Epoch(Record):
    """Record of an epoch, one line of the journal; further keys are kept."""

    model_config = ConfigDict(extra="allow")

    epoch: Count
    loss: Finite
    train_accuracy: Finite
    search_accuracy: Finite


class TrainerState(Record):
    """State of a trainer: number of epochs and everything that its next step depends on."""

    epoch: Count
    learner: dict[str, Any]


class Checkpoint(Record):
    """State that the next epoch depends on."""

    seconds: Amount
    trainer: TrainerState


class Summary(LearnedSummary):
    """Result of a finished fine-tuning.

    Costs are of the hardware's whole batch, in SI units.

    `model_dump(mode="json")` gives the document of `summary.json`, which `haq finetune --json` prints.
    """

    train_images: Count = 0
    epochs: Count
    steps: Count
    mean_weight_bits: Amount
    """Mean over the quantized weights."""
    lr: Amount | None = None
    scale_lr: Amount | None = None
    weight_decay: Amount | None = None
    cost: CostSummary = CostSummary()
    baseline_cost: CostSummary = CostSummary()
    seconds: Amount
    warnings: tuple[str, ...]


def append_epoch(run: RunFolder, line: Json) -> None:
    """Append an epoch to the journal, and write it to the disk.

    Args:
        run: Folder of the run.
        line: Fields of the epoch.
    """
    journal = _journal(run)
    journal.append(Epoch.model_validate(line))
    journal.sync()


def epochs(run: RunFolder) -> list[Epoch]:
    """Read the journal; an unfinished last line is ignored.

    Args:
        run: Folder of the run.

    Returns:
        The epochs, in order; empty if there is no journal.

    Raises:
        UserError: A line is damaged, or is not the epoch of this number.
    """
    found = _journal(run).read(remedy=REMEDY)
    for number, epoch in enumerate(found, start=1):
        if epoch.epoch != number:
            raise UserError(f"{run.path / JOURNAL} is damaged (line {number}: not epoch {number}); {REMEDY}")
    return found


def keep_epochs(run: RunFolder, count: int) -> None:
    """Remove the lines of the journal after the first `count`.

    Args:
        run: Folder of the run.
        count: Number of epochs to keep.
    """
    _journal(run).truncate(count)


def _journal(run: RunFolder) -> Journal[Epoch]:
    return Journal(run.path / JOURNAL, Epoch)
