"""Append-only files of records, one JSON object per line."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from haq.errors import UserError, validation_message
from haq.files import append_line, write_atomically
from haq.runs.records import Record, parse_object

RecordType = TypeVar("RecordType", bound=Record)


@dataclass(frozen=True, slots=True)
class Journal(Generic[RecordType]):
    """File of records, one JSON object per line, that an interrupted process leaves readable.

    A line counts once its line break is written, so that of a killed process at most the last record is lost.

    Attributes:
        path: The file; a missing one holds no records.
        shape: The type of its records.
    """

    path: Path
    shape: type[RecordType]

    def append(self, record: RecordType) -> None:
        """Add a record at the end of the file, which is created if it is missing."""
        append_line(self.path, json.dumps(record.model_dump(mode="json"), allow_nan=False))

    def objects(self) -> list[dict[str, Any]]:
        """Return the lines as they are, up to the first that is not a JSON object."""
        objects: list[dict[str, Any]] = []
        for line in self._lines():
            document = parse_object(line)
            if document is None:
                break
            objects.append(document)
        return objects

    def read(self) -> list[RecordType]:
        """Return the records up to the first line that is not one."""
        records: list[RecordType] = []
        for document in self.objects():
            try:
                records.append(self.shape.model_validate(document))
            except ValidationError:
                break
        return records

    def read_all(self, *, remedy: str) -> list[RecordType]:
        """Return the records of all lines.

        Args:
            remedy: What the user can do about a damaged file, as the end of a sentence.

        Raises:
            UserError: If a line is not a record.
        """
        return [self._record(number, line, remedy) for number, line in enumerate(self._lines(), start=1)]

    def truncate(self, count: int | None = None) -> None:
        """Keep the first `count` lines as they are, or all; in either case remove an unfinished last line."""
        content = self._content()
        kept = b"".join(line + b"\n" for line in list(self._lines())[:count])
        if kept != content or not self.path.is_file():
            write_atomically(self.path, kept)

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
        yield from self._content().split(b"\n")[:-1]

    def _content(self) -> bytes:
        return self.path.read_bytes() if self.path.is_file() else b""
