"""External tools: where they are, how they are called, and what their failures mean."""

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from haq.exporters.c.toolchain.errors import CompileError, MissingToolError, ProgramError

DEBIAN_PACKAGES: Mapping[str, str] = {
    "gcc": "gcc libc6-dev",
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "arm-none-eabi-size": "binutils-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
}
"""Debian packages that bring each tool."""
HARNESS = Path(__file__).parent / "harness"
"""Folder of the C sources that connect a program to the machine that it runs on."""
OPTIMIZATION = "-O2"
C_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", OPTIMIZATION, f"-I{HARNESS}")
COMPILE_SECONDS = 300.0
RESERVED_PREFIX = "harness_"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.[ch]")
_ERROR = re.compile(r"error|undefined reference|overflowed|multiple definition", re.IGNORECASE)


def find_tool(name: str) -> str:
    """Return the path of a tool.

    Args:
        name: Name of the program, a key of `DEBIAN_PACKAGES`.

    Returns:
        Its path.

    Raises:
        MissingToolError: It is not installed.
    """
    path = shutil.which(name)
    if path is None:
        packages = DEBIAN_PACKAGES[name]
        source = f"packages {packages} bring" if " " in packages else f"package {packages} brings"
        raise MissingToolError(f"{name} is not installed; the Debian {source} it")
    return path


def missing_tools(names: Sequence[str]) -> tuple[str, ...]:
    """Return those of some tools that are not installed.

    Args:
        names: Names of programs.

    Returns:
        The missing ones.
    """
    return tuple(name for name in names if shutil.which(name) is None)


def write_sources(sources: Mapping[str, str], folder: Path) -> list[Path]:
    """Write the sources of a program.

    Args:
        sources: Texts by file name, which end in .c or .h.
        folder: Existing folder.

    Returns:
        Paths of the .c files.

    Raises:
        ValueError: A name is not that of a C file, or is one of the harness.
    """
    for name, text in sources.items():
        if not _PLAIN_NAME.fullmatch(name) or name.startswith(RESERVED_PREFIX):
            raise ValueError(f"{name!r} is not a plain name of a .c or .h file")
        (folder / name).write_text(text, encoding="utf-8")
    return [folder / name for name in sources if name.endswith(".c")]


def compile_with(compiler: str, arguments: Sequence[str | Path], folder: Path) -> None:
    """Run a compiler.

    Args:
        compiler: Name of the compiler.
        arguments: Its arguments.
        folder: Folder to run in.

    Raises:
        MissingToolError: The compiler is not installed.
        CompileError: It refused, or took too long.
    """
    command = [find_tool(compiler), *map(str, arguments)]
    try:
        done = run_bounded(command, folder=folder, stdin=b"", seconds=COMPILE_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"{compiler} took more than {COMPILE_SECONDS:g} s") from error
    if done.returncode != 0:
        raise CompileError(f"{compiler}: {_first_error(done.stderr.decode(errors='replace'), folder)}")


def run_program(command: Sequence[str | Path], *, folder: Path, stdin: bytes, seconds: float) -> bytes:
    """Run a program to its end.

    Args:
        command: The program and its arguments.
        folder: Folder to run in.
        stdin: What it reads from standard input.
        seconds: Time limit.

    Returns:
        What it wrote to standard output.

    Raises:
        ProgramError: It failed or took too long.
    """
    name = Path(command[0]).name
    try:
        done = run_bounded([str(word) for word in command], folder=folder, stdin=stdin, seconds=seconds)
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"{name} took more than {seconds:g} s") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        said = f": {lines[0]}" if lines else ""
        raise ProgramError(f"{name} {_ending(done.returncode)}{said}")
    return done.stdout


def run_bounded(
    command: Sequence[str], *, folder: Path, stdin: bytes, seconds: float
) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process group of its own, all of which ends when the time is over.

    Args:
        command: The command.
        folder: Folder to run in.
        stdin: What it reads from standard input.
        seconds: Time limit.

    Returns:
        Its exit status and what it wrote.

    Raises:
        subprocess.TimeoutExpired: The time is over.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, env=_environment()
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout=seconds)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def _environment() -> dict[str, str]:
    """Return this process' environment with messages in English, whose words are searched."""
    return {**os.environ, "LC_ALL": "C"}


def _first_error(text: str, folder: Path) -> str:
    """Return the line that says what is wrong; warnings and the context of a message come before and after it."""
    lines = [line.replace(f"{folder}/", "") for line in text.splitlines() if line.strip()]
    return next((line for line in lines if _ERROR.search(line)), lines[0] if lines else "no message")


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"returned {code}"
