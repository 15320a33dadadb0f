"""End of a search in which too many policies in a row cannot be evaluated."""

from collections.abc import Sequence

from haq.errors import UserError
from haq.runs.episode import Episode

MAX_FAILURES = 3
"""Number of policies that may fail in a row; more are a defect of the settings or the network."""


def require_success(episodes: Sequence[Episode]) -> None:
    """Check that the last policies did not all fail.

    Args:
        episodes: All episodes so far.

    Raises:
        UserError: The last `MAX_FAILURES` policies could not be evaluated.
    """
    last = episodes[-MAX_FAILURES:]
    if len(last) == MAX_FAILURES and all(episode.failure is not None for episode in last):
        raise UserError(
            f"{MAX_FAILURES} policies in a row could not be evaluated ({last[-1].failure}); raise --min-bits, or try "
            "--engine torch or another --calibration"
        )
