"""Execution of exported C sources: on the host, and on an emulated Cortex-M7."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Protocol
from weakref import finalize

import numpy as np
import torch

from haq.errors import UserError
from haq.execution.structures import Structure, tensors
from haq.exporters.c.exporter import HEADER, SOURCE
from haq.exporters.c.identifiers import symbol_of
from haq.exporters.c.memory import traced_tensors
from haq.exporters.c.runnable import Hooks, from_memory_order, in_memory_order, runnable_sources
from haq.exporters.c.toolchain import CompileError, CortexM7, ProgramError, host_program
from haq.exporters.c.toolchain.cortex_m7 import MCU_TOOLS
from haq.exporters.c.toolchain.host import HOST_TOOLS
from haq.exporters.c.toolchain.tools import missing_tools
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, FormatName
from haq.exporters.integer.comparison import compare_operations
from haq.exporters.integer.lowering import integer_network
from haq.exporters.integer.network import Codes, IntegerNetwork
from haq.exporters.integer.reference import dequantize, quantize
from haq.exporters.protocols import LayerCodes
from haq.tasks.predictions import Runner

Execute = Callable[[bytes], bytes]
"""A compiled program, from input to output."""


class Machine(Protocol):
    """Compiler of C programs, and machine that runs them."""

    def missing(self) -> str | None:
        """Return what is missing, in one line; None if nothing is."""
        ...

    def prepare(self, sources: Mapping[str, str], stack: ExitStack) -> Execute:
        """Compile a program.

        Args:
            sources: Texts by file name.
            stack: Receives what has to be removed in the end.

        Returns:
            The program.
        """
        ...


class Host:
    """This machine."""

    def missing(self) -> str | None:
        return _missing(HOST_TOOLS)

    def prepare(self, sources: Mapping[str, str], stack: ExitStack) -> Execute:
        return stack.enter_context(host_program(sources))


class Emulator:
    """Emulated Cortex-M7."""

    def missing(self) -> str | None:
        return _missing(MCU_TOOLS)

    def prepare(self, sources: Mapping[str, str], stack: ExitStack) -> Execute:  # noqa: ARG002
        return lambda content: CortexM7().run(sources, content).output


class CRuntime:
    """C sources, compiled and run.

    Args:
        name: Name of the runtime.
        machine: Machine that runs them.
        max_images: Number of images that it executes in about a minute; None if it is fast.
    """

    format: FormatName = "c"

    def __init__(self, name: str, machine: Machine, max_images: int | None) -> None:
        self.name = name
        self.max_images = max_images
        self._machine = machine

    def missing(self) -> str | None:
        return self._machine.missing()

    def runner(self, export: Export, network: Deployable) -> Runner:
        integers = integer_network(network, export.bits)
        execute = self._compiled(export, "none")

        def run(inputs: Structure) -> Structure:
            output = integers.tensors[integers.output]
            codes = _codes(execute(in_memory_order(_quantized(integers, inputs))))
            return torch.from_numpy(dequantize(integers, from_memory_order(codes, output)))

        return run

    def layer_codes(self, export: Export, network: Deployable, inputs: Structure) -> Iterator[LayerCodes]:
        integers = integer_network(network, export.bits)
        codes = _quantized(integers, inputs)
        traces = _codes(self._compiled(export, "trace")(in_memory_order(codes))).reshape(len(codes), -1)
        found = {integers.input: codes, **dict(_tensors(integers, traces))}
        yield from compare_operations(integers, found, [each.name for each in network.policy.layers])

    def _compiled(self, export: Export, hooks: Hooks) -> Execute:
        """Compile a program, whose files are removed when nothing refers to it any more."""
        texts = (export.files[suffix].decode() for suffix in (SOURCE, HEADER))
        sources = runnable_sources(*texts, symbol=symbol_of(export.stem), hooks=hooks)
        stack = ExitStack()
        compiled = self._machine.prepare(sources, stack)

        def execute(content: bytes) -> bytes:
            try:
                return compiled(content)
            except (CompileError, ProgramError) as error:
                raise UserError(f"runtime {self.name}: {error}") from error

        finalize(execute, stack.close)
        return execute


def host_runtime() -> CRuntime:
    """Return the runtime of this machine.

    Returns:
        The runtime `c`.
    """
    return CRuntime("c", Host(), None)


def mcu_runtime() -> CRuntime:
    """Return the runtime of the emulated Cortex-M7.

    Returns:
        The runtime `mcu`.
    """
    return CRuntime("mcu", Emulator(), 8)


def _missing(tools: tuple[str, ...]) -> str | None:
    missing = missing_tools(tools)
    return f"not installed: {', '.join(missing)}" if missing else None


def _quantized(network: IntegerNetwork, inputs: Structure) -> Codes:
    (values,) = tensors(inputs)
    return quantize(network, values.detach().cpu().numpy())


def _codes(content: bytes) -> Codes:
    return np.frombuffer(content, np.int8)


def _tensors(network: IntegerNetwork, traces: Codes) -> Iterator[tuple[str, Codes]]:
    """Yield the traced tensors by name, [n, ...] each; `traces` are [n, codes of all tensors]."""
    start = 0
    for name, count in traced_tensors(network):
        yield name, from_memory_order(traces[:, start : start + count], network.tensors[name])
        start += count
