"""Programs on the host: input to output, and what is said of programs that do not compile or run."""

import os
import time
from pathlib import Path

import pytest

from haq.exporters.c.toolchain import CompileError, MissingToolError, ProgramError, host_program, host_run
from haq.exporters.c.toolchain.folders import MAX_AGE_SECONDS, program_folder
from haq.exporters.c.toolchain.host import HOST_TOOLS
from haq.exporters.c.toolchain.tools import missing_tools

pytestmark = pytest.mark.skipif(bool(missing_tools(HOST_TOOLS)), reason="gcc is not installed")

ECHO = """
#include "haq_harness.h"
#include "twice.h"
int main(void) {
    unsigned char byte;
    haq_section_begin("all");
    while (haq_read(&byte, 1) == 1) { byte = TWICE(byte); haq_write(&byte, 1); }
    haq_section_end();
    return 0;
}
"""
HEADER = "#define TWICE(x) ((unsigned char)((x) * 2))\n"


def program(body: str) -> dict[str, str]:
    return {"main.c": f'#include "haq_harness.h"\nint main(void) {{ {body} }}\n'}


def test_program_maps_input_to_output() -> None:
    assert host_run({"main.c": ECHO, "twice.h": HEADER}, bytes(range(100))) == bytes(range(0, 200, 2))


def test_program_runs_any_number_of_times() -> None:
    with host_program({"main.c": ECHO, "twice.h": HEADER}) as run:
        assert [run(b"\x01"), run(b""), run(b"\x04\x05")] == [b"\x02", b"", b"\x08\x0a"]


def test_undefined_behaviour_is_found_with_a_flag() -> None:
    sources = program("int x = 0; haq_read(&x, 4); x += 1; haq_write(&x, 4); return 0;")
    largest = (2**31 - 1).to_bytes(4, "little")
    assert host_run(sources, largest) == (2**31).to_bytes(4, "little")
    with pytest.raises(ProgramError, match="signed integer overflow"):
        host_run(sources, largest, flags=["-fsanitize=undefined", "-fno-sanitize-recover=all"])


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return missing;", "gcc: main.c:2:25: error: 'missing' undeclared"),
        ("int unused; return 0;", "error: unused variable 'unused'"),
        ("extern int other(void); return other();", "undefined reference to `other'"),
    ],
)
def test_first_complaint_of_the_compiler_is_the_message(body: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        host_run(program(body), b"")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 3;", "program returned 3"),
        ("volatile int *nowhere = 0; return *nowhere;", "program was ended by SIGSEGV"),
        ("for (;;) {}", "program took more than 0.2 s"),
    ],
)
def test_failing_programs(body: str, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        host_run(program(body), b"", seconds=0.2)


@pytest.mark.parametrize("name", ["../main.c", "/tmp/main.c", "main.cpp", "harness_main.c", "-o.c", ""])
def test_names_of_files_are_checked(name: str) -> None:
    with pytest.raises(ValueError, match="is not a plain name"):
        host_run({name: ECHO}, b"")


def test_missing_compiler_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingToolError, match=r"gcc is not installed; the Debian packages gcc libc6-dev bring it"):
        host_run(program("return 0;"), b"")


def test_folders_of_killed_processes_are_removed_a_day_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path))
    ages = {"killed": MAX_AGE_SECONDS + 60, "running": MAX_AGE_SECONDS / 2}
    for name, age in ages.items():
        (tmp_path / "programs" / name).mkdir(parents=True)
        (tmp_path / "programs" / name / "program.c").touch()
        os.utime(tmp_path / "programs" / name, (time.time() - age,) * 2)  # noqa: TID251
    with program_folder() as folder:
        assert {path.name for path in folder.parent.iterdir()} == {"running", folder.name}
    assert [path.name for path in (tmp_path / "programs").iterdir()] == ["running"]
