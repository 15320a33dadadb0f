"""Named phases of long work, reported to whoever shows them."""

from collections.abc import Callable

Progress = Callable[[str], None]
"""Is called with the name of a phase when it begins, which ends the phase before it."""


def no_progress(_: str) -> None:
    """Show nothing."""
