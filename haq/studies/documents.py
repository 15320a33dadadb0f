"""Base class of the typed records that studies write to JSON files and read back."""

from typing import Any

from pydantic import ConfigDict

from haq.runs.records import StoredRecord


class DocumentRecord(StoredRecord):
    """Part of a study's document.

    Fields that a file does not have stay unset, and fields that this version does not know are kept, so that a record
    that was read is written again as it was.
    """

    model_config = ConfigDict(extra="allow")

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain JSON values, without the fields that were not set."""
        return self.model_dump(mode="json")
