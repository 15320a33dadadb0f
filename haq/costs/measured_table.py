"""Tables of measurements that are written row by row and can be continued, with a device file beside each."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TypeVar

from haq.errors import UserError
from haq.files import link_target, remove_unfinished, write_atomically
from hardware_sim.catalog import device_names
from hardware_sim.lookup import csv_device

R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredTable:
    """A table of costs and the device that reads it.

    Attributes:
        path: The table, a .csv file.
        columns: Names of its columns.
        description: One line about the measurement; an unfinished table is continued only if it is the same.
        batch: Size of the batch that a row is of.
        notes: What a user of the numbers should know.
    """

    path: Path
    columns: tuple[str, ...]
    description: str
    batch: int
    notes: tuple[str, ...]

    @property
    def device(self) -> Path:
        """Path of the device file."""
        return device_file(self.path)

    def check(self) -> None:
        """Check that the path can be that of a table.

        Raises:
            UserError: It cannot.
        """
        if self.path.suffix != ".csv":
            raise UserError(f"--out {self.path}: the table's name must end in .csv")
        if not self.path.parent.is_dir():
            raise UserError(f"--out {self.path}: there is no folder {self.path.parent}")
        if not os.access(self.path.parent, os.W_OK | os.X_OK):
            raise UserError(f"--out {self.path}: {self.path.parent} is no folder that this user may write to")
        if self.path.stem in device_names():
            raise UserError(f"--out {self.path}: {self.path.stem} is the name of a shipped device; choose another")

    def rows(self, read: Callable[[Sequence[str]], list[R]]) -> list[R]:
        """Write the device file and the names of the columns, or continue an unfinished table.

        Args:
            read: Function that reads the rows from the lines of a table, the first with the names of the columns. It
                raises KeyError, TypeError or ValueError if they cannot be read.

        Returns:
            The rows so far.

        Raises:
            UserError: The path cannot be used, holds another measurement, or is damaged.
        """
        head, *lines = self._open()
        rows: list[R] = []
        for number, line in enumerate(lines, start=2):
            try:
                rows += read([head, line])
            except (KeyError, TypeError, ValueError) as error:
                raise UserError(
                    f"{self.path} is damaged (line {number}); delete this line to measure it again, or the file"
                ) from error
        return rows

    def _open(self) -> Sequence[str]:
        """Write the device file, and return the lines of the table so far."""
        text = self._device_text()
        try:
            before = self.device.read_text(encoding="utf-8") if self.device.exists() else None
            if before not in (text, None) or (before is None and self.path.exists()):
                found = self.device if before else self.path
                raise UserError(f"{found} is there already, of another measurement; choose another --out")
            for path in map(link_target, (self.device, self.path)):
                remove_unfinished(path.parent, escape(path.name))
            write_atomically(link_target(self.device), text.encode())
            return self._lines_so_far()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--out {self.path} cannot be used: {error}") from error

    def _device_text(self) -> str:
        values = {
            "kind": "lookup",
            "name": csv_device(self.path)["name"],
            "description": self.description[:400],
            "batch": self.batch,
            "table_file": self.path.name,
            "round_up": True,
            "validation": list(self.notes),
        }
        # Texts, integers, booleans and lists are written the same in JSON and TOML.
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
        return "\n".join(["# Written by `haq hardware measure`.", *lines]) + "\n"

    def _lines_so_far(self) -> list[str]:
        """Read the table, remove an unfinished last line, and write the names of the columns to a new one."""
        content = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        whole = content[: content.rfind("\n") + 1] or f"{','.join(self.columns)}\n"
        if whole != content:
            write_atomically(link_target(self.path), whole.encode())
        return whole.splitlines()


def device_file(path: Path) -> Path:
    """Return the path of the .toml device that belongs to a table.

    Args:
        path: The table.

    Returns:
        File of the same name beside it.
    """
    return path.with_suffix(".toml")
