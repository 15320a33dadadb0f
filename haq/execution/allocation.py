"""Allocation of memory by the C library, under which torch allocates large tensors."""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Parameters of `mallopt`, see malloc.h of the GNU C library."""


def keep_freed_memory() -> None:
    """Make the C library of this process keep freed memory for later allocations.

    By default it requests the memory of every large tensor from the system, which clears it page by page, and returns
    it afterwards. On large activations that takes longer than most operations. Only the GNU C library is changed.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library, or none
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
