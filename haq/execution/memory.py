"""Running of networks on smaller batches where memory does not suffice."""

import warnings
from collections.abc import Callable

from haq.errors import HaqWarning, UserError
from haq.execution.structures import Structure, concatenate, item_count, take

_SIGNS = ("out of memory", "DefaultCPUAllocator", "Failed to allocate memory", "bad_alloc", "bad allocation")
"""Parts of the messages with which torch and onnxruntime report a failed allocation."""


def within_memory(run: Callable[[Structure], Structure]) -> Callable[[Structure], Structure]:
    """Return a function that halves batches that memory does not suffice for, with a warning.

    Outputs are those of whole batches, up to rounding where kernels depend on the size of a batch. Later batches are
    divided in the same way.

    Args:
        run: Network as a function from inputs to outputs.

    Returns:
        The function. It raises UserError where memory does not even suffice for a single item.
    """
    largest: int | None = None

    def run_in_parts(inputs: Structure) -> Structure:
        nonlocal largest
        count = item_count(inputs)
        while True:
            size = min(count, largest or count)
            outputs = _attempt(run, inputs, size)
            if outputs is not None:
                return outputs
            if size <= 1:
                raise UserError("memory does not suffice for a single item; free memory, or choose a smaller network")
            largest = (size + 1) // 2
            warnings.warn(
                f"memory does not suffice for a batch of {size}; it is divided into batches of {largest}",
                HaqWarning,
                stacklevel=2,
            )

    return run_in_parts


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error is a failed allocation of memory.

    Args:
        error: Error of a network that ran.

    Returns:
        True if it is.

    Examples:
        >>> is_out_of_memory(RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))
        True
    """
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)


def _attempt(run: Callable[[Structure], Structure], inputs: Structure, size: int) -> Structure | None:
    """Run batches of a size; return None, with all their memory freed, if memory does not suffice."""
    count = item_count(inputs)
    try:
        if count <= size:
            return run(inputs)
        outputs = [run(take(inputs, slice(start, start + size))) for start in range(0, count, size)]
        return concatenate(outputs, [min(size, count - start) for start in range(0, count, size)])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    return None
