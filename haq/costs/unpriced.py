"""Parts of a network that have no price because they are not quantized."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """A part of the network that stays in float, and why."""

    name: str
    reason: str
    macs: int | None = None
    """Multiply-accumulates on the example; None where none were counted."""

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" + ("" if self.macs is None else f" ({self.macs:,} MACs)")
