"""Protocols of exporting: exporters, and the runtimes that execute what they make."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from haq.execution.structures import Structure
from haq.exporters.deployable import Deployable
from haq.exporters.formats import Export, ExportOptions, FormatName
from haq.tasks.predictions import Runner


class Exporter(Protocol):
    """Builder of files of one format.

    Attributes:
        format: Name of the format.
        suffix: Suffix of the main file.
        runtimes: Names of the runtimes that verify an export, the first available one before it is written.
    """

    format: FormatName
    suffix: str
    runtimes: tuple[str, ...]

    def build(self, network: Deployable, options: ExportOptions) -> Export:
        """Build the files of a network, without writing them.

        Args:
            network: Network with its policy.
            options: Options of the export.

        Returns:
            The files.

        Raises:
            UserError: The format cannot take the network, or a library for it is missing. The message names the layer,
                or what to install.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCodes:
    """Comparison of the output codes of one layer with the integer reference, from equal input codes.

    Attributes:
        layer: Name of the layer.
        is_integer: Whether the runtime computed the layer in integers.
        reason: Reason for float arithmetic, in one line; empty for integers.
        compared: Number of codes that were compared.
        differing: Number of codes that differ.
    """

    layer: str
    is_integer: bool
    reason: str = ""
    compared: int = 0
    differing: int = 0


class Runtime(Protocol):
    """Executor of files of one format on this machine.

    Attributes:
        name: Name of the runtime.
        format: Format of the files that it executes.
        max_images: Number of images that it executes in about a minute where it is slow, such as an emulator; None for
            runtimes of ordinary speed.
    """

    name: str
    format: FormatName
    max_images: int | None

    def missing(self) -> str | None:
        """Return what this machine lacks to use the runtime, in one line; None if it can be used."""
        ...

    def runner(self, export: Export, network: Deployable) -> Runner:
        """Return the exported network as a function.

        Args:
            export: Files to execute.
            network: Network that was exported.

        Returns:
            Function from inputs [n, ...] to outputs [n, ...], as an engine's runner.

        Raises:
            UserError: The runtime does not execute the files.
        """
        ...

    def layer_codes(self, export: Export, network: Deployable, inputs: Structure) -> Iterator[LayerCodes]:
        """Compare the output codes of every layer with those of the integer reference.

        Args:
            export: Files to execute.
            network: Network that was exported.
            inputs: Inputs of the network, [n, ...].

        Returns:
            Iterator over the layers of the policy in order.
        """
        ...
