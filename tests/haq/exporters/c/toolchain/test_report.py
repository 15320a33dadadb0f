"""Reports of emulated programs are refused where they are damaged."""

import struct

import pytest

from haq.exporters.c.toolchain import ProgramError
from haq.exporters.c.toolchain.report import read_report

SECTION = struct.pack("<I4sIQ", 4, b"conv", 2, 900)
GOOD = struct.pack("<IiII", 0, 0, 88, 1) + SECTION


def test_report_of_a_finished_program() -> None:
    assert read_report(GOOD) == (88, {"conv": 900})


@pytest.mark.parametrize("length", range(len(GOOD)))
def test_cut_reports(length: int) -> None:
    with pytest.raises(ProgramError, match="damaged report"):
        read_report(GOOD[:length])


@pytest.mark.parametrize("content", [b"\x09" + GOOD[1:], GOOD[:20] + b"\xff\xfe\xfd\xfc" + GOOD[24:]])
def test_unknown_end_and_names_that_are_no_text(content: bytes) -> None:
    with pytest.raises(ProgramError, match="damaged report"):
        read_report(content)
