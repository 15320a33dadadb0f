"""Group of commands whose modules are imported when a command is called, since they import torch."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup

from haq.cli.help import GroupedCommand
from haq.execution.termination import signals_exit


class Entry(NamedTuple):
    """Command of a `LazyGroup`.

    Attributes:
        target: `module:name` of its function or of a `typer.Typer`.
        summary: First line of its help.
    """

    target: str
    summary: str


class LazyGroup(TyperGroup):
    """Group that lists the commands of `entries` without importing them; subclasses set `entries`.

    Args:
        settings: Settings of a `TyperGroup`.
    """

    entries: Mapping[str, Entry] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands(self.entries)  # type: ignore[assignment]  # nothing adds commands to it

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the names and first lines of the commands.

        Args:
            ctx: Context of the group.
            formatter: Click's `HelpFormatter`, which receives the text.
        """
        self._listing().format_commands(ctx, formatter)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Return the options and commands that begin with a text.

        Args:
            ctx: Context of the group.
            incomplete: The text.

        Returns:
            Completions.
        """
        listing = self._listing()
        context = typer.Context(listing, info_name=ctx.info_name, resilient_parsing=True)
        return listing.shell_complete(context, incomplete)

    def _listing(self) -> TyperGroup:
        """Return a group with the same options whose commands have a name and a first line only."""
        commands = {name: TyperCommand(name=name, help=entry.summary) for name, entry in self.entries.items()}
        return TyperGroup(name=self.name, params=self.params, commands=commands)  # type: ignore[arg-type]


class _Commands(Mapping[str, Any]):
    """Commands by name, each of which is imported when it is looked up."""

    def __init__(self, entries: Mapping[str, Entry]) -> None:
        self._entries = entries

    def __getitem__(self, name: str) -> Any:
        module, _, attribute = self._entries[name].target.partition(":")
        with signals_exit():
            found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            return typer.main.get_command(found)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(name, cls=GroupedCommand)(found)
        return typer.main.get_command(single)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
