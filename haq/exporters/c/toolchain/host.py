"""C programs as processes of the host."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from haq.exporters.c.toolchain.folders import program_folder
from haq.exporters.c.toolchain.tools import C_FLAGS, HARNESS, compile_with, run_program, write_sources

HOST_TOOLS = ("gcc",)
RUN_SECONDS = 300.0


@contextmanager
def host_program(
    sources: Mapping[str, str], *, flags: Sequence[str] = (), seconds: float = RUN_SECONDS
) -> Iterator[Callable[[bytes], bytes]]:
    """Compile a program for the host, to be run any number of times inside the context.

    Args:
        sources: Texts of the program by file name.
        flags: Further flags of the compiler, such as `-fsanitize=undefined`.
        seconds: Time limit of each run.

    Yields:
        Function that runs the program: from standard input to standard output.

    Raises:
        MissingToolError: gcc is not installed.
        CompileError: The compiler refused the program.
    """
    with program_folder() as folder:
        executable = folder / "program"
        files = [*write_sources(sources, folder), HARNESS / "host.c"]
        compile_with("gcc", [*C_FLAGS, *flags, "-o", executable, *files, "-lm"], folder)
        yield lambda stdin: run_program([executable], folder=folder, stdin=stdin, seconds=seconds)


def host_run(
    sources: Mapping[str, str], stdin: bytes, *, flags: Sequence[str] = (), seconds: float = RUN_SECONDS
) -> bytes:
    """Compile a program for the host and run it once.

    Args:
        sources: Texts of the program by file name.
        stdin: Input of the program.
        flags: Further flags of the compiler.
        seconds: Time limit of the run.

    Returns:
        Output of the program.

    Raises:
        MissingToolError: gcc is not installed.
        CompileError: The compiler refused the program.
        ProgramError: The program failed or took too long.
    """
    with host_program(sources, flags=flags, seconds=seconds) as run:
        return run(stdin)
