"""The cache folder: $HAQ_CACHE, or the user's."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from haq.errors import UserError


def cache_dir() -> Path:
    """The cache folder; made if it is missing. Raises UserError where that cannot be done."""
    folder = Path(os.environ.get("HAQ_CACHE") or user_cache_path("haq"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot use {folder} as cache ({error.strerror}); set HAQ_CACHE to a folder") from error
    return folder
