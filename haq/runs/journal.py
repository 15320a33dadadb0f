"""Append-only files of records, one JSON object per line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from haq.errors import UserError, validation_message
from haq.file_limits import JOURNAL, open_bounded
from haq.files import append_line, sync_file, system_errors_named
from haq.runs.records import Record, parse_object

RecordType = TypeVar("RecordType", bound=Record)


@dataclass(frozen=True, slots=True)
class Journal(Generic[RecordType]):
    """File of records, one JSON object per line, that stays readable if the writing process is interrupted.

    A last line without a line break is ignored, so that a killed process loses at most the last record; any other
    damaged line is an error, so that no record is lost silently.

    Attributes:
        path: The file; a missing one holds no records.
        shape: Type of its records.
    """

    path: Path
    shape: type[RecordType]

    def append(self, record: RecordType) -> None:
        """Append a record to the file, which is created if it is missing.

        Args:
            record: Record to write.
        """
        append_line(self.path, json.dumps(record.model_dump(mode="json"), allow_nan=False))

    def sync(self) -> None:
        """Write the lines so far to the disk, so that they survive a power failure."""
        if self.path.is_file():
            sync_file(self.path)

    def read(self, *, remedy: str) -> list[RecordType]:
        """Read the records of all lines.

        Args:
            remedy: Advice to the user for a damaged file, as the end of a sentence.

        Returns:
            The records, in order.

        Raises:
            UserError: A line is not a valid record, or the file cannot be read.
        """
        return list(self.stream(remedy=remedy))

    def stream(self, *, remedy: str, first: int = 0) -> Iterator[RecordType]:
        """Read the records of lines one at a time, without keeping them in memory.

        Args:
            remedy: Advice to the user for a damaged file, as the end of a sentence.
            first: Number of lines to skip, unchecked.

        Yields:
            The records, in order.

        Raises:
            UserError: A line is not a valid record, or the file cannot be read.
        """
        for number, line in enumerate(islice(self._lines(), first, None), start=first + 1):
            yield self._record(number, line, remedy)

    def count(self) -> int:
        """Count the lines that end in a line break, valid or not."""
        return sum(1 for _ in self._lines())

    def truncate(self, count: int | None = None) -> None:
        """Remove lines after the first `count`, and an unfinished last line; a missing file is created.

        Args:
            count: Number of lines to keep, unchanged; None for all.
        """
        size = sum(len(line) + 1 for line in islice(self._lines(), count))
        with system_errors_named(self.path), self.path.open("ab") as file:
            file.truncate(size)

    def _record(self, number: int, line: bytes, remedy: str) -> RecordType:
        document = parse_object(line)
        if document is None:
            raise UserError(f"{self.path} is damaged (line {number}: not a JSON object); {remedy}")
        try:
            return self.shape.model_validate(document)
        except ValidationError as error:
            raise UserError(f"{self.path} is damaged (line {number}: {validation_message(error)}); {remedy}") from error

    def _lines(self) -> Iterator[bytes]:
        """Yield the lines that end in a line break, without it."""
        if not self.path.is_file():
            return
        with open_bounded(self.path, JOURNAL) as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line[:-1]
