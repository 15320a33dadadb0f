"""Parts of a network that stay in float and have no price."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refused:
    """Part of a network that stays in float.

    Attributes:
        name: Path of the module, or name of the function.
        reason: Why it is not quantized.
        macs: Multiply-accumulates for the example input; None if they were not counted.
    """

    name: str
    reason: str
    macs: int | None = None

    def __str__(self) -> str:
        """Describe the part in one line."""
        return f"{self.name}: {self.reason}" + ("" if self.macs is None else f" ({self.macs:,} MACs)")
