"""Definitions of C constants."""

import textwrap
from collections.abc import Iterable, Mapping

_WIDTH = 116


def array(kind: str, name: str, values: Iterable[int]) -> str:
    """Return the definition of a constant array.

    Args:
        kind: Type of the entries.
        name: Identifier.
        values: At least one entry.

    Returns:
        The definition, which ends with a line break.
    """
    entries = textwrap.fill(", ".join(_integer(each) for each in values), _WIDTH, break_long_words=False)
    return f"static const {kind} {name}[] = {{\n{textwrap.indent(entries, '    ')}\n}};\n"


def structure(kind: str, name: str, members: Mapping[str, int | str]) -> str:
    """Return the definition of a constant structure.

    Args:
        kind: Name of the structure.
        name: Identifier.
        members: Values by member.

    Returns:
        The definition, which ends with a line break.
    """
    pairs = (f".{member} = {value if isinstance(value, str) else _integer(value)}" for member, value in members.items())
    entries = textwrap.fill(", ".join(pairs), _WIDTH, break_long_words=False, break_on_hyphens=False)
    return f"static const struct {kind} {name} = {{\n{textwrap.indent(entries, '    ')}\n}};\n"


def _integer(value: int) -> str:
    """Return a literal; the lowest int32 has none of its own."""
    return "INT32_MIN" if value == -(2**31) else str(int(value))
