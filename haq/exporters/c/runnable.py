"""Programs that run an exported network in the harness of `haq.exporters.c.toolchain`."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from haq.exporters.c.identifiers import SYMBOL
from haq.exporters.c.kernel_sources import fill_template, template
from haq.exporters.integer.network import Codes, CodeTensor

Hooks = Literal["none", "sections", "trace"]
"""What a run gives beside the outputs: nothing, the instructions of each operation, or the codes of each operation."""


def runnable_sources(source: str, header: str, *, symbol: str = SYMBOL, hooks: Hooks = "none") -> dict[str, str]:
    """Return the sources of a program that runs a network.

    It reads input codes from the input until it ends. With `trace` it writes the codes of all operations instead of the
    outputs.

    Args:
        source: Source file of the network.
        header: Its header.
        symbol: Identifier that its names begin with.
        hooks: What is measured.

    Returns:
        Texts by file name.
    """
    switch = "#define HAQ_WITH_TRACE\n" if hooks == "trace" else ""
    main = fill_template("run.c", symbol=symbol, SYMBOL=symbol.upper())
    sources = {"net.h": header, "net.c": source, "run.c": switch + main}
    if hooks != "none":
        sources["hooks.h"] = switch + template("hooks.h")
        sources["net.c"] = f'#include "hooks.h"\n{source}'
    return sources


def in_memory_order(codes: NDArray[np.int64] | Codes) -> bytes:
    """Return codes in the order of C: images as height, width, channels.

    Args:
        codes: Codes, [n, channels] or [n, channels, height, width].

    Returns:
        Their bytes.
    """
    ordered = codes.transpose(0, 2, 3, 1) if codes.ndim == 4 else codes
    return np.ascontiguousarray(ordered, dtype=np.int8).tobytes()


def from_memory_order(codes: Codes, tensor: CodeTensor) -> Codes:
    """Return the codes of a tensor in the order channels, height, width.

    Args:
        codes: Codes in the order of C, of any shape.
        tensor: Tensor that they belong to.

    Returns:
        The codes, [n, *shape].
    """
    if len(tensor.shape) == 1:
        return codes.reshape(-1, *tensor.shape)
    channels, height, width = tensor.shape
    return codes.reshape(-1, height, width, channels).transpose(0, 3, 1, 2)
