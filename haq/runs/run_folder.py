"""One run, one folder: written so that a kill at any moment loses nothing that matters."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor

from haq.errors import UserError
from haq.files import unfinished, write_atomically
from haq.runs.archives import BROKEN_FILE, archive_members, read_torch
from haq.runs.episode import Episode
from haq.runs.journal import Journal
from haq.runs.locking import LOCK, exclusive_folder
from haq.runs.records import parse_object

CONFIG, ENVIRONMENT, JOURNAL = "config.json", "environment.json", "episodes.jsonl"
POLICY, NEAREST_MISS, QUANTIZERS = "policy.json", "nearest_miss.json", "quantizers.safetensors"
CHECKPOINT, SUMMARY = "checkpoint.pt", "summary.json"
LAYERS, EXAMPLE = "layers.json", "example.safetensors"
_RESULTS = (JOURNAL, POLICY, NEAREST_MISS, QUANTIZERS, CHECKPOINT, SUMMARY, LAYERS, EXAMPLE)
RESOLVED = "resolved"
"""The key of `config.json` that says what settings came to; it is no setting itself."""
_PICTURES = ("policy.png", "learning_curve.png")

Json = Mapping[str, Any]


def safe_name(text: str) -> str:
    """A text as the name of a file or folder anywhere.

    >>> safe_name("timm:resnet18-latency=0.6")
    'timm_resnet18-latency_0.6'
    """
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in text)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of a run. `summary.json` is written last: where it is, the run is finished."""

    path: Path

    @classmethod
    @contextmanager
    def opened(
        cls, path: Path, config: Json, *, resume: bool = False, may_differ: str | None = None
    ) -> Iterator["RunFolder | None"]:
        """Hold a folder for this process while the context is open, from before it is read until all is written.

        Yields the run to continue, as `reopen` finds it with `resume`, or None where one is to be created. The hold
        ends with the process, however that ends. Raises UserError as `reopen` and `check_free` do, or if another
        process holds the folder.
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
        """A folder for a new run, with what it was asked for and where it runs.

        With `resume` the folder may hold what a run left that was killed before its configuration was whole; a journal
        or checkpoint without one is of no use and is removed. Raises UserError as `check_free` does, or if the folder
        cannot be written.
        """
        cls.check_free(path, resume=resume)
        try:
            path.mkdir(parents=True, exist_ok=True)
            run = cls(path)
            run._sweep()
            for name in _RESULTS:
                (path / name).unlink(missing_ok=True)
            run.write_json(ENVIRONMENT, environment)
            run.write_json(CONFIG, config)
        except OSError as error:
            raise UserError(f"cannot write to {path}: {error.strerror}") from error
        return run

    @classmethod
    def check_free(cls, path: Path, *, resume: bool = False) -> None:
        """Raise UserError if a path is a file, or a folder that holds anything; with `resume`, one that holds a run.

        Also where no folder can be made, or written to: better now than after hours of work.
        """
        cls.require_writable(path)
        if (path / CONFIG).is_dir():
            raise UserError(f"{path / CONFIG} is a folder; choose another --out")
        if resume and cls(path).read_json(CONFIG) is None:
            # Every run begins with its environment: without one, files of these names are somebody else's.
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
        """Raise UserError if a path is a file, or where no folder can be made, or written to."""
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; --out needs a folder")
        above = next(each for each in (path, *path.absolute().parents) if each.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise UserError(f"cannot write to {path}: {above} is no folder that this user may write to")

    @classmethod
    def reopen(cls, path: Path, config: Json, *, may_differ: str | None = None) -> "RunFolder | None":
        """The run in a folder, or None where there is none to go on with: no folder, or no complete configuration.

        Raises UserError, naming the differences, if the run was started with another configuration, but for the setting
        `may_differ`, or by another command.
        """
        if path.exists() and not path.is_dir():
            raise UserError(f"{path} is a file; --out needs a folder")
        run = cls(path)
        before = run.read_json(CONFIG) if (path / CONFIG).is_file() else None
        if before is None:
            return None
        ours = json.loads(json.dumps(config))
        compared = (before.keys() | ours.keys()) - {RESOLVED, may_differ}
        different = [key for key in sorted(compared) if before.get(key) != ours.get(key)]
        if different:
            raise UserError(f"{path} was started with other settings: {_differences(before, ours, different)}")
        return run

    def reopen_results(self, **settings: Any) -> None:
        """Make this run an unfinished one, with new values of some settings: remove what is written at the end."""
        for name in (SUMMARY, QUANTIZERS, *_PICTURES):  # the summary first: without it the run is not finished
            (self.path / name).unlink(missing_ok=True)
        self.write_json(CONFIG, (self.read_json(CONFIG) or {}) | settings)

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its end."""
        return self.read_json(SUMMARY) is not None

    def _sweep(self) -> None:
        """Remove what a run left that was killed while it wrote a file."""
        for name in (CONFIG, ENVIRONMENT, *_RESULTS, *_PICTURES):
            for left in self.path.glob(f"{unfinished(name)}*"):
                left.unlink(missing_ok=True)

    def write_json(self, name: str, document: Json) -> None:
        """Replace a file as a whole."""
        self.write(name, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON object, or None where the file is missing or not whole."""
        path = self.path / name
        return parse_object(path.read_bytes()) if path.is_file() else None

    def write(self, name: str, content: bytes) -> None:
        """Replace a file as a whole."""
        write_atomically(self.path / name, content)

    @property
    def episodes(self) -> Journal[Episode]:
        """The episodes of a search."""
        return Journal(self.path / JOURNAL, Episode)

    def save_checkpoint(self, state: Json) -> None:
        """Tensors and plain scalars only."""
        buffer = BytesIO()
        torch.save(dict(state), buffer)
        self.write(CHECKPOINT, buffer.getvalue())

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None. Never runs code from the file. Raises UserError if it is damaged."""
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

    def load_tensors(self, name: str) -> dict[str, Tensor] | None:
        """The tensors of a safetensors file, or None where it is missing. Raises UserError if it is damaged."""
        path = self.path / name
        try:
            return load(path.read_bytes()) if path.is_file() else None
        except SafetensorError as error:
            raise UserError(f"{path} is damaged: {error}") from error

    def load_metadata(self, name: str) -> dict[str, str]:
        """The texts beside the tensors of a safetensors file. Raises UserError if it is damaged."""
        path = self.path / name
        try:
            with safe_open(path, "pt") as file:
                return file.metadata() or {}
        except SafetensorError as error:
            raise UserError(f"{path} is damaged: {error}") from error

    def save_tensors(
        self, name: str, tensors: Mapping[str, Tensor], *, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Replace a safetensors file as a whole. Several names may stand for one tensor, as with tied layers."""
        copies = {key: tensor.clone(memory_format=torch.contiguous_format) for key, tensor in tensors.items()}
        self.write(name, save(copies, metadata=dict(metadata) if metadata else None))


def _differences(before: Json, ours: Json, keys: list[str]) -> str:
    found = [each for key in keys for each in _changes(key, before.get(key), ours.get(key))]
    shown = [f"{key} {json.dumps(there)} there, {json.dumps(now)} now" for key, there, now in found[:4]]
    return "; ".join(shown) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")


def _changes(key: str, there: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """A setting that differs; of a group of settings those that do."""
    if not (isinstance(there, dict) and isinstance(now, dict)):
        yield key, there, now
        return
    for name in sorted(there.keys() | now.keys()):
        if there.get(name) != now.get(name):
            yield f"{key}.{name}", there.get(name), now.get(name)
