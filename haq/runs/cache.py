"""Cache folder: $HAQ_CACHE, or the user's cache folder of the operating system."""

import os
from pathlib import Path

from platformdirs import user_cache_path

from haq.errors import UserError


def cache_dir() -> Path:
    """Return the cache folder, created if it is missing.

    Returns:
        Path of the folder.

    Raises:
        UserError: The folder cannot be created.
    """
    folder = Path(os.environ.get("HAQ_CACHE") or user_cache_path("haq"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot use {folder} as cache ({error.strerror}); set HAQ_CACHE to a folder") from error
    return folder
