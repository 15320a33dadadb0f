"""Records of exports and verifications in the folder of a run, which reports read."""

import os
from pathlib import Path

from haq.experiment.artifact import Artifact
from haq.exporters.records import ExportRecord, VerificationRecord
from haq.runs.records import Record, checked, holds
from haq.runs.run_folder import RunFolder

EXPORTS, VERIFICATION = "exports.json", "verification.json"
_REMEDY = "delete it; haq export and haq verify write it anew"


class ExportHistory(Record):
    """Content of `exports.json`.

    Attributes:
        exports: Exports of the run, one for every main file, the last one last.
    """

    exports: tuple[ExportRecord, ...] = ()


def record_export(artifact: Artifact, record: ExportRecord) -> None:
    """Add an export to the records of the run, in place of an earlier one of the same name.

    Files are recorded by their names, without folders. Nothing is recorded for a policy outside a run, for other bits
    than those of the run, and in a folder that is not writable.

    Args:
        artifact: Artifact that was exported.
        record: The export.
    """
    run = _run_of(artifact)
    if run is None:
        return
    files = tuple(file.model_copy(update={"path": Path(file.path).name}) for file in record.files)
    record = record.model_copy(update={"files": files})
    document = run.read_json(EXPORTS) or {}
    earlier = ExportHistory.model_validate(document).exports if holds(ExportHistory, document) else ()
    kept = [each for each in earlier if _name(each) != _name(record)]
    run.write_json(EXPORTS, ExportHistory(exports=(*kept, record)).model_dump(mode="json"))


def record_verification(artifact: Artifact, record: VerificationRecord) -> None:
    """Write the last verification of a run into its folder, where `record_export` would.

    Args:
        artifact: Artifact that was verified.
        record: The verification.
    """
    run = _run_of(artifact)
    if run is not None:
        run.write_json(VERIFICATION, record.model_dump(mode="json"))


def read_exports(run: RunFolder) -> tuple[ExportRecord, ...]:
    """Read the exports of a run.

    Args:
        run: Folder of the run.

    Returns:
        The exports; none if there is no record.

    Raises:
        UserError: The file is damaged.
    """
    path = run.path / EXPORTS
    return checked(ExportHistory, run.read_json(EXPORTS), path, remedy=_REMEDY).exports if path.is_file() else ()


def read_verification(run: RunFolder) -> VerificationRecord | None:
    """Read the last verification of a run.

    Args:
        run: Folder of the run.

    Returns:
        The verification; None if there is no record.

    Raises:
        UserError: The file is damaged.
    """
    path = run.path / VERIFICATION
    return checked(VerificationRecord, run.read_json(VERIFICATION), path, remedy=_REMEDY) if path.is_file() else None


def _run_of(artifact: Artifact) -> RunFolder | None:
    """Return the folder that an artifact's records belong to."""
    if artifact.path is None or not artifact.source.is_runs_own or not os.access(artifact.path, os.W_OK):
        return None
    return artifact.source.folder


def _name(record: ExportRecord) -> str:
    return record.files[0].path if record.files else ""
