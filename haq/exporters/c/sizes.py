"""Flash and memory of a program on a Cortex-M7."""

from haq.exporters.c.program import Program
from haq.exporters.c.runnable import runnable_sources
from haq.exporters.c.toolchain import CompileError, CortexM7, ProgramError
from haq.exporters.c.toolchain.cortex_m7 import MCU_TOOLS
from haq.exporters.c.toolchain.tools import missing_tools


def measured_sizes(program: Program) -> str:
    """Return a line with flash and peak memory of a program, as compiled for a Cortex-M7 and run there once.

    Args:
        program: Program.

    Returns:
        The line. Without the compiler and the emulator, it says which tools are missing.
    """
    if missing := missing_tools(MCU_TOOLS):
        return f"flash and stack are not measured, since these are not installed: {', '.join(missing)}"
    try:
        sources = runnable_sources(program.source, program.header, symbol=program.symbol)
        run = CortexM7().run(sources, bytes(program.input_bytes))
    except (CompileError, ProgramError) as error:
        return f"flash and stack are not measured: {error}"
    size = run.objects["net.c"]
    code = size.text - program.constant_bytes
    return (
        f"Cortex-M7, gcc -O2: {size.text + size.data:,} B of flash ({code:,} B of them code); peak RAM "
        f"{size.bss + size.data + run.stack_bytes:,} B ({run.stack_bytes:,} B of them stack), beside the arrays of "
        "inputs and outputs"
    )
