"""Folders of runs on the command line: their default paths, and the commands that continue them."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from haq.cli.output import say_command
from haq.runs.run_folder import safe_name


def default_out(*words: str) -> Path:
    """Return the default folder of a run under results/.

    Args:
        words: Parts of the folder's name, such as model and device; characters that are not safe in names are replaced.

    Returns:
        The folder.

    Examples:
        >>> default_out("digits_cnn", "bismo-edge", "latency=0.6").as_posix()
        'results/digits_cnn-bismo-edge-latency_0.6'
    """
    return Path("results") / safe_name("-".join(words))


def resume_command(path: Path, *, keep_time: bool = True) -> str:
    """Return the current command line with --resume added, and --out if it was not given.

    Args:
        path: Folder of the run.
        keep_time: Keep --time.

    Returns:
        The command, quoted for a shell.
    """
    words = [word for word in sys.argv[1:] if word != "--resume"]
    if not keep_time:
        times = [number for number, word in enumerate(words) if word == "--time"]
        dropped = {*times, *(number + 1 for number in times)}
        words = [word for number, word in enumerate(words) if number not in dropped and not word.startswith("--time=")]
    has_out = any(word == "--out" or word.startswith("--out=") for word in words)
    return shlex.join(["haq", *words, *([] if has_out else ["--out", str(path)]), "--resume"])


@contextmanager
def resumable(path: Path, *, kept: str) -> Iterator[None]:
    """Print the command that continues a run if the user interrupts it.

    Args:
        path: Folder of the run.
        kept: What an interrupted run has written, such as "all completed epochs are".

    Returns:
        Context manager for the workflow.

    Raises:
        KeyboardInterrupt: The user interrupted the workflow.
    """
    try:
        yield
    except KeyboardInterrupt:
        state = f"{kept} in {path}" if path.is_dir() else "nothing was written yet"
        say_command(f"stopped; {state}. Go on with:", resume_command(path))
        raise
