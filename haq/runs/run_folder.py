"""Folder of a run, readable and resumable after an interruption at any moment."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch

from haq.errors import UserError
from haq.file_limits import RUN_DOCUMENT, read_bytes
from haq.files import remove_unfinished, sync_folder, write_atomically
from haq.runs.archives import BROKEN_FILE, archive_members, read_torch
from haq.runs.changed_settings import changed_settings
from haq.runs.episode import Episode
from haq.runs.journal import Journal
from haq.runs.layer_errors import LAYER_ERRORS
from haq.runs.locking import LOCK, exclusive_folder
from haq.runs.records import parse_object
from haq.runs.version import KEY, VERSION, require_known_version

CONFIG, ENVIRONMENT, JOURNAL = "config.json", "environment.json", "episodes.jsonl"
POLICY, NEAREST_MISS, QUANTIZERS = "policy.json", "nearest_miss.json", "quantizers.safetensors"
CHECKPOINT, SUMMARY = "checkpoint.pt", "summary.json"
LAYERS, EXAMPLE = "layers.json", "example.safetensors"
_RESULTS = (JOURNAL, POLICY, NEAREST_MISS, QUANTIZERS, CHECKPOINT, SUMMARY, LAYERS, EXAMPLE, LAYER_ERRORS)
RESOLVED = "resolved"
"""Key of `config.json` with the values that the settings have for the network and data; not a setting itself."""
_DRAWN = ("policy.png", "learning_curve.png", "layer_errors.png", "sensitivity.png", "roofline.png", "report.html")
"""Figures and the page that are drawn of a run."""

Json = Mapping[str, Any]


def safe_name(text: str) -> str:
    """Replace characters that are not allowed in file names on every system.

    Args:
        text: Name to change.

    Returns:
        The name with underscores in place of these characters.

    Examples:
        >>> safe_name("timm:resnet18-latency=0.6")
        'timm_resnet18-latency_0.6'
    """
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Folder of a run; the run is finished once the folder contains `summary.json`, which is written last.

    Attributes:
        path: Path of the folder.
    """

    path: Path

    @classmethod
    @contextmanager
    def opened(
        cls, path: Path, config: Json, *, resume: bool = False, may_differ: str | None = None
    ) -> Iterator["RunFolder | None"]:
        """Lock a folder for this process until the context or the process ends, and find the run in it.

        Args:
            path: The folder, which need not exist.
            config: Settings of the run.
            resume: Whether to continue a run in the folder.
            may_differ: Setting in which the run may differ from `config`.

        Yields:
            The run to continue, or None if a new one is to be created.

        Raises:
            UserError: As in `reopen` and `check_free`, or another process uses the folder.
        """
        # Nothing can be written into a folder without permission, but a finished run in it can be read.
        is_read_only = resume and path.is_dir() and not os.access(path, os.W_OK)
        if not is_read_only:
            cls.require_writable(path)
        with nullcontext() if is_read_only else exclusive_folder(path):
            run = cls.reopen(path, config, may_differ=may_differ) if resume else None
            if run is None:
                cls.check_free(path, resume=resume)
            elif not is_read_only:
                run._sweep()
            yield run

    @classmethod
    def create(cls, path: Path, config: Json, environment: Json, *, resume: bool = False) -> "RunFolder":
        """Create the folder of a new run, with its settings and environment.

        Args:
            path: The folder.
            config: Settings of the run.
            environment: Versions and machine.
            resume: Whether to accept the folder of a run that was interrupted before its configuration was complete;
                its results are removed.

        Returns:
            The folder.

        Raises:
            UserError: As in `check_free`, or the folder cannot be written.
        """
        cls.check_free(path, resume=resume)
        try:
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path)
            run._sweep()
            for name in _RESULTS:
                (path / name).unlink(missing_ok=True)
            run.write_json(ENVIRONMENT, environment)
            run.write_json(CONFIG, {KEY: VERSION, **config})
            sync_folder(path.parent)
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror}") from error
        return run

    @classmethod
    def check_free(cls, path: Path, *, resume: bool = False) -> None:
        """Check that a run can be created in a folder.

        Args:
            path: The folder, which need not exist.
            resume: Whether to accept the folder of a run that was interrupted before its configuration was complete.

        Raises:
            UserError: The path is a file, cannot be created or written to, or the folder is not empty; with `resume`,
                the folder contains a run or the results of one.
        """
        cls.require_writable(path)
        if (path / CONFIG).is_dir():
            raise UserError(f"{path / CONFIG} is a folder; choose another --out")
        if resume and cls(path).read_json(CONFIG) is None:
            # Every run begins with its environment: without one, files of these names do not belong to a run.
            strange = [] if (path / ENVIRONMENT).exists() else [name for name in _RESULTS if (path / name).exists()]
            if strange:
                raise UserError(f"{path} holds {', '.join(strange)}, but is no folder of a run; choose another --out")
            return
        if path.is_dir() and any(each.name != LOCK for each in path.iterdir()):
            if resume:
                raise UserError(
                    f"{path} is not empty: its run is none that this command can go on with; choose another --out"
                )
            raise UserError(f"{path} is not empty; add --resume to go on with it, or choose another --out")

    @classmethod
    def require_writable(cls, path: Path) -> None:
        """Check that a path is a folder that this user may write to, or can be created as one.

        Args:
            path: The folder.

        Raises:
            UserError: The path is a file, or the folder cannot be created or written to.
        """
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; --out needs a folder")
        above = next(each for each in (path, *path.absolute().parents) if each.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise UserError(f"cannot write to {path}: {above} is no folder that this user may write to")

    @classmethod
    def reopen(cls, path: Path, config: Json, *, may_differ: str | None = None) -> "RunFolder | None":
        """Find the run in a folder.

        Args:
            path: The folder.
            config: Settings that the run must have been started with.
            may_differ: Setting in which it may differ.

        Returns:
            The run; None if there is no folder or no complete configuration in it.

        Raises:
            UserError: The run was started with other settings, or by another command; the message names them.
        """
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; --out needs a folder")
        run = cls(path)
        before = run.read_json(CONFIG) if (path / CONFIG).is_file() else None
        if before is None:
            return None
        changed = changed_settings(before, config, left_out=(RESOLVED, KEY, may_differ))
        if changed:
            raise UserError(f"{path} was started with other settings: {changed}")
        return run

    def reopen_results(self, **settings: Any) -> None:
        """Make a finished run unfinished: change settings, and remove the files that are written at its end.

        Args:
            settings: New values of settings.
        """
        # The summary first: without it the run is not finished.
        for name in (SUMMARY, QUANTIZERS, LAYER_ERRORS, *_DRAWN):
            (self.path / name).unlink(missing_ok=True)
        self.write_json(CONFIG, (self.read_json(CONFIG) or {}) | settings)

    @property
    def is_finished(self) -> bool:
        """Whether the run is finished."""
        return self.read_json(SUMMARY) is not None

    def _sweep(self) -> None:
        """Remove the unfinished files of an interrupted run, tables and pictures included."""
        remove_unfinished(self.path, "*")

    def write_json(self, name: str, document: Json) -> None:
        """Write a JSON file atomically.

        Args:
            name: Name of the file.
            document: JSON object.
        """
        self.write(name, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read a JSON object.

        Args:
            name: Name of the file.

        Returns:
            The object; None if the file is missing or incomplete.

        Raises:
            UserError: It is too large, or the configuration of a run of a later version.
        """
        path = self.path / name
        document = parse_object(read_bytes(path, RUN_DOCUMENT)) if path.is_file() else None
        if name == CONFIG and document is not None:
            require_known_version(document, path)
        return document

    def write(self, name: str, content: bytes) -> None:
        """Write a file atomically.

        Args:
            name: Name of the file.
            content: Its content.
        """
        write_atomically(self.path / name, content)

    @property
    def episodes(self) -> Journal[Episode]:
        """Journal of the episodes of a search."""
        return Journal(self.path / JOURNAL, Episode)

    def save_checkpoint(self, state: Json) -> None:
        """Write the checkpoint atomically.

        Args:
            state: Tensors and plain values by name.
        """
        buffer = BytesIO()
        torch.save(dict(state), buffer)
        self.write(CHECKPOINT, buffer.getvalue())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """Read the last checkpoint, without running code from the file.

        Returns:
            Tensors and plain values by name; None if there is no checkpoint.

        Raises:
            UserError: The file is damaged.
        """
        path = self.path / CHECKPOINT
        if not path.is_file():
            return None
        with path.open("rb") as file:
            try:
                archive_members(file, verify=True)  # torch itself verifies nothing
                file.seek(0)
                state = read_torch(file)
            except BROKEN_FILE as error:
                raise UserError(
                    f"{path} is damaged; delete it to start this run again from its first episode"
                ) from error
        if not isinstance(state, dict):
            raise UserError(f"{path} holds no checkpoint; delete it to start this run again from its first episode")
        return state
