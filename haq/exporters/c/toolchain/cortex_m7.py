"""C programs on an emulated Cortex-M7: outputs, exact instruction counts, flash and RAM."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from haq.exporters.c.toolchain.errors import CompileError, ProgramError
from haq.exporters.c.toolchain.folders import program_folder
from haq.exporters.c.toolchain.report import read_report
from haq.exporters.c.toolchain.tools import (
    C_FLAGS,
    HARNESS,
    OPTIMIZATION,
    RESERVED_PREFIX,
    compile_with,
    find_tool,
    run_program,
    write_sources,
)

COMPILER = "arm-none-eabi-gcc"
MCU_TOOLS = (COMPILER, "arm-none-eabi-size", "qemu-system-arm")
CPU_FLAGS = ("-mcpu=cortex-m7", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv5-d16")
HARNESS_FLAGS = ("-ffreestanding", "-fno-tree-loop-distribute-patterns")  # no loop becomes a call of the C library
SECTION_FLAGS = ("-ffunction-sections", "-fdata-sections")
LINK_FLAGS = ("-nostartfiles", "-Wl,--gc-sections", f"-T{HARNESS / 'cortex_m7.ld'}")
HARNESS_SOURCES = ("startup", "semihosting", "sections")
# 2^7 = 128 ns of virtual time for each instruction: harness/sections.c says why.
EMULATOR_FLAGS = ("-M", "mps2-an500", "-nographic", "-monitor", "none", "-semihosting", "-icount", "shift=7")
LOCKUP = "Lockup"
"""Word of the emulator's message where an exception cannot be handled, as when the stack has overflowed."""


class ObjectSize(NamedTuple):
    """Size of a compiled source file, in bytes.

    Attributes:
        text: Code and constants.
        data: Variables with initial values.
        bss: Variables without.
    """

    text: int
    data: int
    bss: int


@dataclass(frozen=True, slots=True, kw_only=True)
class McuRun:
    """One run of a program.

    Attributes:
        output: What the program wrote.
        instructions: Executed instructions of each marked section, summed over its calls.
        stack_bytes: Largest depth of the stack.
        objects: Size of each .c file as compiled, before the linker removes what nothing uses.
    """

    output: bytes
    instructions: Mapping[str, int]
    stack_bytes: int
    objects: Mapping[str, ObjectSize]


@dataclass(frozen=True, slots=True, kw_only=True)
class CortexM7:
    """Compiler and emulator of a Cortex-M7 with 4 MiB of flash, 3.75 MiB of RAM and 256 KiB of stack.

    Attributes:
        flags: Further flags of the compiler.
        seconds: Time limit of a run; the emulator executes some 10^8 instructions a second.
    """

    flags: Sequence[str] = ()
    seconds: float = 300.0

    def run(self, sources: Mapping[str, str], stdin: bytes = b"") -> McuRun:
        """Compile a program and run it.

        Args:
            sources: Texts of the program by file name.
            stdin: Input of the program.

        Returns:
            Its output, instructions and sizes.

        Raises:
            MissingToolError: The compiler or the emulator is not installed.
            CompileError: The compiler refused the program, or it exceeds the memory.
            ProgramError: The program failed or took too long.
        """
        emulator = find_tool("qemu-system-arm")
        with program_folder() as folder:
            objects = self._compile(write_sources(sources, folder), folder)
            (folder / "input").write_bytes(stdin)
            _emulate([emulator, *EMULATOR_FLAGS, "-kernel", "program.elf"], folder, self.seconds)
            report = read_report(_left(folder / "report"))
            return McuRun(
                output=_left(folder / "output"),
                instructions=report.instructions,
                stack_bytes=report.stack_bytes,
                objects=objects,
            )

    def _compile(self, files: Sequence[Path], folder: Path) -> dict[str, ObjectSize]:
        objects = {file: file.with_suffix(".o") for file in files}
        flags = (*C_FLAGS, *CPU_FLAGS, *SECTION_FLAGS, *self.flags)
        for file, target in objects.items():
            compile_with(COMPILER, [*flags, "-c", file, "-o", target], folder)
        harness = _harness_objects()
        for name, content in harness.items():
            (folder / name).write_bytes(content)
        linked = (*map(str, objects.values()), *harness)
        compile_with(COMPILER, [*CPU_FLAGS, *LINK_FLAGS, *linked, "-lm", "-o", "program.elf"], folder)
        return {file.name: _object_size(target, folder) for file, target in objects.items()}


def compiler_version() -> str:
    """Return name, version and optimization of the compiler, such as `arm-none-eabi-gcc 12.2.1 -O2`.

    Returns:
        The version.

    Raises:
        MissingToolError: The compiler is not installed.
    """
    version = run_program([find_tool(COMPILER), "-dumpfullversion"], folder=Path(), stdin=b"", seconds=60)
    return f"{COMPILER} {version.decode().strip()} {OPTIMIZATION}"


@cache
def _harness_objects() -> Mapping[str, bytes]:
    """Compile the harness, once for all programs of this process."""
    with program_folder() as folder:
        for each in HARNESS_SOURCES:
            source, target = HARNESS / f"{each}.c", folder / f"{RESERVED_PREFIX}{each}.o"
            compile_with(COMPILER, [*C_FLAGS, *CPU_FLAGS, *HARNESS_FLAGS, "-c", source, "-o", target], folder)
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _emulate(command: Sequence[str], folder: Path, seconds: float) -> None:
    try:
        run_program(command, folder=folder, stdin=b"", seconds=seconds)
    except ProgramError as error:
        if LOCKUP in str(error):
            raise ProgramError(
                "the emulated program met a fault that it could not report: a stack overflow?"
            ) from error
        raise


def _left(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ProgramError(f"the emulated program left no {path.name}") from error


def _object_size(path: Path, folder: Path) -> ObjectSize:
    (numbers,) = re.findall(r"^\s*(\d+)\s+(\d+)\s+(\d+)\s", _size([path], folder), flags=re.MULTILINE)
    return ObjectSize(*map(int, numbers))


def _size(arguments: Sequence[str | Path], folder: Path) -> str:
    try:
        command = [find_tool("arm-none-eabi-size"), *arguments]
        return run_program(command, folder=folder, stdin=b"", seconds=60).decode()
    except ProgramError as error:
        raise CompileError(str(error)) from error
