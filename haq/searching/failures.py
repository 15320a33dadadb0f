"""End of a search in which too many policies in a row cannot be evaluated."""

from collections.abc import Collection

from haq.errors import UserError
from haq.runs.episode import Episode

MAX_FAILURES = 3
"""Number of policies that may fail in a row; more are a defect of the settings or the network."""


def require_success(latest: Collection[Episode]) -> None:
    """Check that the last policies did not all fail.

    Args:
        latest: The latest episodes, at most `MAX_FAILURES`.

    Raises:
        UserError: The last `MAX_FAILURES` policies could not be evaluated.
    """
    reasons = [episode.failure for episode in latest if episode.failure is not None]
    if len(reasons) == MAX_FAILURES:
        raise UserError(
            f"{MAX_FAILURES} policies in a row could not be evaluated ({reasons[-1]}); raise --min-bits, or try "
            "--engine torch or another --calibration"
        )
