"""The report that a program on the emulated Cortex-M7 leaves; written by `harness/startup.c`."""

import struct
from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from haq.exporters.c.toolchain.errors import ProgramError


class End(IntEnum):
    """How a program ended, as in `harness/cortex_m7.h`."""

    RETURNED = 0
    FAULT = 1
    NESTED = 2
    TOO_MANY = 3
    TOO_LONG = 4
    OUTPUT_FAILED = 5


_REASONS: Mapping[End, str] = {
    End.NESTED: "a section began inside another one or ended without one",
    End.TOO_MANY: "the program has more than 512 sections",
    End.TOO_LONG: "a section took more than 1.3 G instructions, the range of the timer",
    End.OUTPUT_FAILED: "the output could not be written",
}


class Report(NamedTuple):
    """What a finished program left.

    Attributes:
        stack_bytes: Largest depth of the stack.
        instructions: Instructions of each section, summed over its calls.
    """

    stack_bytes: int
    instructions: Mapping[str, int]


def read_report(content: bytes) -> Report:
    """Read the report of a program.

    Args:
        content: The file.

    Returns:
        The report.

    Raises:
        ProgramError: The program failed, or the report is damaged.
    """
    try:
        end, detail, stack_bytes, count = struct.unpack_from("<IiII", content)
        sections, at = {}, struct.calcsize("<IiII")
        for _ in range(count):
            (length,) = struct.unpack_from("<I", content, at)
            name = content[at + 4 : at + 4 + length].decode()
            at += 4 + length
            _, sections[name] = struct.unpack_from("<IQ", content, at)
            at += struct.calcsize("<IQ")
        reason = End(end)
    except (struct.error, ValueError) as error:
        raise ProgramError("the emulated program left a damaged report") from error
    _check(reason, detail)
    return Report(stack_bytes, sections)


def _check(end: End, detail: int) -> None:
    if end is End.FAULT and detail == 0:
        raise ProgramError("the emulated program used more than 256 KiB of stack")
    if end is End.FAULT:
        raise ProgramError(f"the emulated program met a fault at address {detail & 0xFFFFFFFF:#x}")
    if end is not End.RETURNED:
        raise ProgramError(f"emulated program: {_REASONS[end]}")
    if detail:
        raise ProgramError(f"the emulated program returned {detail}")
