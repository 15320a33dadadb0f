"""Help of commands as plain text, with the options under the headings of their groups."""

import re
from typing import Any

from typer.core import TyperCommand

OWN = "Options"
"""Heading of the options that belong to the command alone."""


class GroupedCommand(TyperCommand):
    """Command whose help lists its options by group: first those of the command itself, then the groups of settings."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, each with its help.

        Args:
            ctx: Context of the command.
            formatter: Click's `HelpFormatter`, which receives the text.
        """
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], OWN: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            is_argument = parameter.param_type_name == "argument"
            heading = "Arguments" if is_argument else getattr(parameter, "rich_help_panel", None) or OWN
            sections.setdefault(heading, []).append((record[0], _plain_default(record[1])))
        for heading, records in sections.items():
            if records:
                with formatter.section(heading):
                    formatter.write_dl(records)


def _plain_default(text: str) -> str:
    """Remove parentheses around defaults.

    >>> _plain_default("Search method. [default: (ddpg)]")
    'Search method. [default: ddpg]'
    """
    return re.sub(r"\[default: \((.*)\)\]", r"[default: \1]", text)
