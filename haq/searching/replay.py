"""Episodes that the journal of an interrupted search has beyond its checkpoint."""

from collections import deque
from collections.abc import Iterator
from itertools import islice

from haq.runs.episode import Episode
from haq.runs.run_folder import RunFolder
from haq.searching.journal_checks import REMEDY


class Replay:
    """Recorded episodes that a resumed search repeats.

    Their lines stay in the journal, so that a further interruption does not lose them.

    Args:
        run: Folder of the run.
        first: Number of the first of these episodes.
        count: Number of lines of the journal.
    """

    def __init__(self, run: RunFolder, *, first: int, count: int) -> None:
        self._run = run
        self._left = islice(run.episodes.stream(remedy=REMEDY, first=first), count - first)
        self._round: deque[Episode] = deque()

    def read(self, count: int) -> Iterator[Episode]:
        """Read the episodes of the next round.

        Args:
            count: Number of proposals of the round.

        Yields:
            Those of its episodes that are recorded.
        """
        for episode in islice(self._left, count):
            self._round.append(episode)
            yield episode

    def take(self, episode: Episode) -> Episode | None:
        """Return the record of an episode that was repeated.

        If it has another policy, as a processor that rounds differently may propose, its line and all later ones are
        removed from the journal.

        Args:
            episode: The repeated episode.

        Returns:
            The record; None if the journal has none.
        """
        recorded = self._round.popleft() if self._round else None
        if recorded is None or recorded.key == episode.key:
            return recorded
        self._run.episodes.truncate(episode.episode)
        self._left = islice(self._left, 0)
        self._round.clear()
        return None
