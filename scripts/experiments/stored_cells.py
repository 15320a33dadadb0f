"""Results of experiments in JSON files, one for each cell of a table: a second call computes what is missing."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from haq.files import write_atomically
from haq.runs.environment import describe_environment

Cell = dict[str, Any]


def stored_cell(path: Path, compute: Callable[[], Cell], options: Namespace, *, seed: int) -> Cell:
    """Return the cell of a file, or compute it and write it with settings and environment.

    Args:
        path: JSON file.
        compute: Function that computes the cell.
        options: Options of the script; folders are not written.
        seed: Seed of the cell.
    """
    if path.is_file():
        found: Cell = json.loads(path.read_text(encoding="utf-8"))
        return found
    print(path.stem, flush=True)
    began = monotonic()
    environment = describe_environment(seed=seed, device="cpu")
    settings = {name: value for name, value in vars(options).items() if not isinstance(value, Path)}
    result = {
        **compute(),
        "seconds": round(monotonic() - began, 1),
        "settings": settings,
        "environment": {name: environment[name] for name in ("seed", "processor", "threads", "commit", "packages")},
    }
    write_atomically(path, (json.dumps(result, indent=1) + "\n").encode())
    return result
