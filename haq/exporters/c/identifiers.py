"""C identifiers from the names of models, layers and tensors, which may hold any characters."""

import re

SYMBOL = "network"
"""First part of the names of a network, unless another is given."""
_FOREIGN = re.compile(r"[^A-Za-z0-9]+")
_LONGEST = 40
_RESERVED = re.compile(r"\d|haq|op\d|$", re.IGNORECASE)
"""Beginnings of identifiers that names in the sources have, or that C does not allow."""


def identifier(prefix: str, name: str) -> str:
    """Return a C identifier that begins with a prefix and resembles a name.

    Args:
        prefix: Identifier, unique among all prefixes that are used.
        name: Any text.

    Returns:
        The prefix, with the ASCII letters and digits of the name behind it.

    Examples:
        >>> identifier("op3", "features.0.conv */ int x;")
        'op3_features_0_conv_int_x'
    """
    readable = plain(name)
    return f"{prefix}_{readable}" if readable else prefix


def plain(name: str) -> str:
    """Return the ASCII letters and digits of a name, for comments and string literals.

    Args:
        name: Any text.

    Returns:
        At most 40 characters; all others become single underscores.

    Examples:
        >>> plain("a.b/*c")
        'a_b_c'
    """
    return _FOREIGN.sub("_", name)[:_LONGEST].strip("_")


def symbol_of(stem: str) -> str:
    """Return the identifier that the functions of a program begin with.

    Args:
        stem: Name of its files without suffix.

    Returns:
        The ASCII letters and digits of the name, behind `net_` where they would be no identifier of their own.

    Examples:
        >>> symbol_of("ResNet-8.w4"), symbol_of("8bit")
        ('ResNet_8_w4', 'net_8bit')
    """
    readable = _FOREIGN.sub("_", stem).strip("_")
    return f"net_{readable}".rstrip("_") if _RESERVED.match(readable) else readable
