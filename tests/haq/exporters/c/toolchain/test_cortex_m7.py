"""Programs on the emulated Cortex-M7: outputs, instruction counts, sizes, and what is said of failing programs."""

import pytest

from haq.exporters.c.toolchain import CompileError, CortexM7, MissingToolError, ProgramError, host_run
from haq.exporters.c.toolchain.cortex_m7 import MCU_TOOLS
from haq.exporters.c.toolchain.tools import missing_tools

pytestmark = pytest.mark.skipif(
    bool(missing_tools(MCU_TOOLS)), reason=f"not installed: {', '.join(missing_tools(MCU_TOOLS))}"
)

PRODUCTS = """
#include <stdint.h>
#include "haq_harness.h"
static int8_t a[4096], b[4096];
static const char *names[] = {"512", "1024", "4096"};
static const int counts[] = {512, 1024, 4096};
__attribute__((noipa)) static int32_t product(int count) {
    int32_t sum = 0;
    for (int i = 0; i < count; i++) { sum += a[i] * b[i]; __asm__ volatile(""); }
    return sum;
}
int main(void) {
    haq_read(a, sizeof a);
    haq_read(b, sizeof b);
    for (int i = 0; i < 3; i++) {
        haq_section_begin(names[i]);
        const int32_t sum = product(counts[i]);
        haq_section_end();
        haq_write(&sum, sizeof sum);
    }
    return 0;
}
"""
OPERANDS = bytes(range(256)) * 16 + bytes(reversed(range(256))) * 16


def program(body: str, before: str = "") -> dict[str, str]:
    return {"main.c": f'#include <stdint.h>\n#include "haq_harness.h"\n{before}\nint main(void) {{ {body} }}\n'}


def run(body: str, before: str = "") -> int:
    """Instructions of the section `it`."""
    return CortexM7().run(program(body, before)).instructions["it"]


def test_output_equals_that_of_the_host() -> None:
    sources = {"main.c": PRODUCTS}
    assert CortexM7().run(sources, OPERANDS).output == host_run(sources, OPERANDS)


def test_counts_of_a_loop_are_linear_and_repeatable() -> None:
    counts = CortexM7().run({"main.c": PRODUCTS}, OPERANDS).instructions
    assert counts == CortexM7().run({"main.c": PRODUCTS}, OPERANDS).instructions
    per_product, rest = divmod(counts["1024"] - counts["512"], 512)
    assert (per_product > 0, rest) == (True, 0)
    assert counts["4096"] - counts["1024"] == 3072 * per_product


@pytest.mark.parametrize("count", [0, 1, 2, 7, 23])
def test_every_instruction_is_counted(count: int) -> None:
    body = f'haq_section_begin("it"); __asm__ volatile("{"nop; " * count}"); haq_section_end(); return 0;'
    assert run(body) == count


def test_calls_of_a_section_are_added() -> None:
    body = 'for (int i = 0; i < 10; i++) { haq_section_begin("it"); __asm__ volatile("nop; nop; nop"); '
    assert run(body + "haq_section_end(); } return 0;") == 30


def test_sizes_are_those_of_the_compiled_file() -> None:
    tables = "const uint8_t constant[1000] = {1}; volatile uint8_t variable[500], start[40] = {1};"
    body = "return variable[3] + start[1] + constant[variable[9] + 7];"
    size = CortexM7().run(program(body, tables)).objects["main.c"]
    assert 1000 <= size.text <= 1100
    assert (size.data, size.bss) == (40, 500)


def test_stack_is_measured() -> None:
    body = "volatile char buffer[{0}]; for (int i = 0; i < {0}; i++) buffer[i] = 1; return buffer[5] - 1;"
    small, large = (CortexM7().run(program(body.format(size))) for size in (512, 4096 + 512))
    assert large.stack_bytes - small.stack_bytes == pytest.approx(4096, abs=16)


def test_double_arithmetic_works() -> None:
    sources = program("double x; haq_read(&x, 8); x = x * 1.5 + 0.25; haq_write(&x, 8); return 0;")
    given = b"\x00\x00\x00\x00\x00\x00\x04\x40"  # 2.5
    assert CortexM7().run(sources, given).output == host_run(sources, given)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 7;", "the emulated program returned 7"),
        ("*(volatile int *)0x90000000 = 1; return 0;", "met a fault at address 0x"),
        ("*(volatile int *)0x1000 = 1; return 0;", "met a fault at address 0x"),
        ("for (;;) {}", "qemu-system-arm took more than 1 s"),
        ('haq_section_begin("a"); haq_section_begin("b"); return 0;', "a section began inside another one"),
        ("haq_section_end(); return 0;", "ended without one"),
    ],
)
def test_failing_programs(body: str, message: str) -> None:
    with pytest.raises(ProgramError, match=message):
        CortexM7(seconds=1).run(program(body))


def test_stack_overflow_is_an_error() -> None:
    deep = "int deep(int n) { volatile int x[64]; x[n & 63] = n; return n ? deep(n + 1) + x[3] : 0; }"
    with pytest.raises(ProgramError, match="used more than 256 KiB of stack"):
        CortexM7().run(program("return deep(1);", f"int deep(int); {deep}"))


def test_program_larger_than_the_memory_is_refused() -> None:
    with pytest.raises(CompileError, match=r"will not fit|overflowed"):
        CortexM7().run(program("return big[3];", "volatile char big[5000000];"))


def test_missing_tools_are_named_with_their_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingToolError, match=r"Debian packages? .* brings? it"):
        CortexM7().run(program("return 0;"))
