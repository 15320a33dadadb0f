"""Memory that is freed and allocated again is not requested from the system again."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from haq.execution.allocation import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(1 << 24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only the GNU C library is changed")
def test_freed_memory_is_kept() -> None:
    faults = [
        int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)
        for how in ("kept", "returned")
    ]
    assert faults[0] < 0.1 * faults[1]
