"""Version of the files of a run, which `config.json` states.

Version 1 is that of folders without a version. Version 2 adds the version itself; the other files are the same.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from haq.errors import UserError

VERSION: Final = 2
"""Version of new runs; those of earlier versions are read."""
KEY: Final = "version"
ADDED_SETTINGS: Final[Mapping[str, object]] = {"proposals": 1}
"""Settings that runs of earlier releases do not have, with the value that describes what these did."""


def require_known_version(document: Mapping[str, Any], path: Path) -> None:
    """Check that the files of a run are of this version or an earlier one.

    Args:
        document: Contents of its `config.json`.
        path: That file.

    Raises:
        UserError: The version is a later one, or no version.

    Examples:
        >>> require_known_version({"version": 99}, Path("run/config.json"))
        Traceback (most recent call last):
        ...
        haq.errors.UserError: run was written by a newer haq: files of version 99, and this haq reads 1 to 2; update haq
    """
    version = document.get(KEY, 1)
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise UserError(f"{path} is damaged: {KEY}: a whole number from 1 on expected")
    if version > VERSION:
        shown = str(version) if version < 10**6 else "above a million"
        raise UserError(
            f"{path.parent} was written by a newer haq: files of version {shown}, and this haq reads 1 to {VERSION}; "
            "update haq"
        )
