"""Record of the callables that runs were made with, to decide whether a callable named in a file may be called.

Calling what a file names runs code, and a file may be downloaded. haq therefore writes a record, in the user's cache
folder, of every run that it made with callables: the folder of the run, the callables, and the source files of each
one's module and of the packages that contain it, with their hashes. A callable that a file names is called only if this
record lists it for that folder and Python would import it from the same, unchanged files. A downloaded folder cannot
contain the record, which is valid only if it belongs to this user and no other user may write to it.
"""

import os
import stat
import sys
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from haq.errors import UserError
from haq.execution.user_code import is_user_code
from haq.files import write_atomically
from haq.runs.cache import cache_dir

_FOLDER = "runs"
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class _Record(BaseModel):
    """Callables of one run, and for each its source files with their hashes."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run: str
    callables: dict[str, dict[str, str]]


def record_callables(run: Path, specs: Iterable[str]) -> None:
    """Record the callables, models or data, that this user made a run with.

    Args:
        run: Folder of the run.
        specs: Models and data as given on the command line; those that are not callables are skipped.

    Raises:
        UserError: The cache folder cannot be written.
    """
    callables = {spec: files for spec in specs if is_user_code(spec) and (files := _source_files(spec))}
    if not callables:
        return
    record = _Record(run=str(run.resolve()), callables=callables)
    path = _record_path(run)
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomically(path, record.model_dump_json(indent=1).encode())
        path.chmod(0o600)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); set HAQ_CACHE to a folder of yours") from error


def require_recorded(run: Path | None, named: dict[str, str]) -> list[str]:
    """Check the callables that files name before any is called.

    Args:
        run: Folder of the run, or of the policy file; None for a policy that comes from no file.
        named: Names in the files, by setting, such as `{"model": "nets:small"}`; built-in names are skipped.

    Returns:
        One line for every callable, with its name and its file.

    Raises:
        UserError: A callable was not called by this user for this run; the message contains the flags to add.
    """
    callables = {setting: spec for setting, spec in named.items() if is_user_code(spec)}
    recorded = _recorded(run) if callables and run is not None else {}
    unknown = {
        setting: spec
        for setting, spec in callables.items()
        if not recorded.get(spec) or recorded[spec] != _source_files(spec)
    }
    if unknown:
        flags = " ".join(f"--{setting} {spec}" for setting, spec in unknown.items())
        raise UserError(
            f"{'the policy names' if run is None else f'the files in {run} name'} code to be called, "
            "but haq has no record that you made this run with it; "
            f"if you trust it, add {flags}"
        )
    return [f"calling {spec} from {list(recorded[spec])[-1]}, as the run was made" for spec in callables.values()]


def _record_path(run: Path) -> Path:
    name = blake2b(os.fsencode(run.resolve()), digest_size=16).hexdigest()
    return cache_dir() / _FOLDER / f"{name}.json"


def _recorded(run: Path) -> dict[str, dict[str, str]]:
    """Return the callables of a run with their source files; empty if there is no record that belongs to this user."""
    if sys.platform == "win32":  # file modes do not say who may write
        return {}
    path = _record_path(run)
    try:
        if not (_is_private(path.parent) and _is_private(path)):
            return {}
        record = _Record.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}
    return record.callables if record.run == str(run.resolve()) else {}


def _is_private(path: Path) -> bool:
    """Return whether a file or folder belongs to this user, and no other user may write to it."""
    status = path.lstat()
    return not stat.S_ISLNK(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_MAY_WRITE


def _source_files(spec: str) -> dict[str, str]:
    """Return the source files of a callable's module and of the packages that contain it, with hashes of their content.

    Nothing is imported to find them. The result is empty if a part is not found or has no source file.
    """
    files: dict[str, str] = {}
    for origin in _origins(spec.partition(":")[0].split(".")):
        if origin is None:
            return {}
        if origin.is_file():
            files[str(origin.resolve())] = blake2b(origin.read_bytes(), digest_size=16).hexdigest()
    return files


def _origins(parts: list[str]) -> Iterator[Path | None]:
    """Yield the file of each part of a module's name.

    For a package without a file it is its folder; None for what is not found.
    """
    path: list[str] | None = [os.getcwd(), *sys.path]  # noqa: PTH109 - sys.path holds texts
    for last in range(1, len(parts) + 1):
        found = PathFinder.find_spec(".".join(parts[:last]), path)
        if found is None and last == 1:  # editable installations may register another finder
            found = find_spec(parts[0])
        if found is None:
            yield None
            return
        locations = list(found.submodule_search_locations or [])
        yield Path(found.origin) if found.has_location and found.origin else Path(locations[0]) if locations else None
        path = locations
