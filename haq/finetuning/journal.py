"""Files of a fine-tuning run that only fine-tuning has: the journal of epochs, the checkpoint and the summary."""

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, ValidationError

from haq.files import append_line
from haq.runs.records import Amount, Count, Finite, Metric, Record
from haq.runs.run_folder import RunFolder

JOURNAL, CURVE = "epochs.jsonl", "learning_curve.png"
Json = Mapping[str, Any]


class Epoch(Record):
    """Line of the journal; further keys are kept."""

    model_config = ConfigDict(extra="allow")

    epoch: Count
    loss: Finite
    train_accuracy: Finite
    search_accuracy: Finite


class TrainerState(Record):
    """State of a trainer: epoch and everything that its next step depends on."""

    epoch: Count
    learner: dict[str, Any]


class Checkpoint(Record):
    """Everything that the next epoch depends on."""

    seconds: Amount
    trainer: TrainerState


class Summary(Record):
    """Fields of the summary of a finished fine-tuning that readers need."""

    metric: Metric
    accuracy_fp32: Finite
    accuracy: Finite
    search_accuracy_fp32: Finite
    search_accuracy_start: Finite
    search_accuracy: Finite
    search_images: Count
    report_images: Count
    epochs: Count
    steps: Count
    mean_weight_bits: Amount
    seconds: Amount
    warnings: tuple[str, ...]


def append_epoch(run: RunFolder, line: Json) -> None:
    """Add a line to the journal.

    Args:
        run: Folder of the run.
        line: Fields of the epoch.
    """
    append_line(run.path / JOURNAL, json.dumps(line, allow_nan=False))


def epochs(run: RunFolder) -> list[dict[str, Any]]:
    """Read the journal up to the first line that no epoch of a run wrote.

    Args:
        run: Folder of the run.

    Returns:
        The lines, in order; empty where there is no journal.
    """
    path, found = run.path / JOURNAL, list[dict[str, Any]]()
    for text in path.read_bytes().split(b"\n")[:-1] if path.is_file() else []:
        try:
            line = Epoch.model_validate_json(text)
        except ValidationError:
            break
        if line.epoch != len(found) + 1:
            break
        found.append(line.model_dump())
    return found


def keep_epochs(run: RunFolder, count: int) -> None:
    """Cut the journal.

    Args:
        run: Folder of the run.
        count: Number of lines to keep.
    """
    run.write(JOURNAL, "".join(json.dumps(line) + "\n" for line in epochs(run)[:count]).encode())
