"""Compilation and execution of C sources: on the host, and on an emulated Cortex-M7 that counts instructions.

A program is a mapping from file names to texts. It has one `int main(void)` that returns 0, and includes
`haq_harness.h` to read its input, write its output and mark the sections whose instructions are counted:

    #include "haq_harness.h"
    int main(void) {
        int8_t image[784], scores[10];
        haq_read(image, sizeof image);
        haq_section_begin("network");
        network(image, scores);
        haq_section_end();
        haq_write(scores, sizeof scores);
        return 0;
    }
"""

from haq.exporters.c.toolchain.cortex_m7 import MCU_TOOLS, CortexM7, McuRun, compiler_version
from haq.exporters.c.toolchain.errors import CompileError, MissingToolError, ProgramError
from haq.exporters.c.toolchain.host import host_program, host_run

__all__ = [
    "MCU_TOOLS",
    "CompileError",
    "CortexM7",
    "McuRun",
    "MissingToolError",
    "ProgramError",
    "compiler_version",
    "host_program",
    "host_run",
]
