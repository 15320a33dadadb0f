"""What every device file says of itself, whatever the architecture."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_sim.cost import Bits, CostTable, UnsupportedError
from hardware_sim.layer import Layer

MAX_BATCH = 2**16
"""Of a batch; cycles are counted in 64 bits, and no device works on more at once."""
# The ranges are wide enough for any real device and narrow enough to catch a number in the wrong unit.
Count = Annotated[int, Field(strict=True, ge=1, le=2**31)]
"""A whole number of things: rows, words, images."""
ClockHz = Annotated[float, Field(strict=True, ge=1e3, le=1e11, allow_inf_nan=False)]
BytesPerS = Annotated[float, Field(strict=True, ge=1e5, le=1e15, allow_inf_nan=False)]
MacsPerS = Annotated[float, Field(strict=True, ge=1e5, le=1e18, allow_inf_nan=False)]
ByteCount = Annotated[int, Field(strict=True, ge=16, le=2**44)]
Watts = Annotated[float, Field(strict=True, gt=0, le=1e5, allow_inf_nan=False)]
PicoJoules = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]


class Accelerator(BaseModel):
    """A device that can price layers; one subclass for every architecture, one TOML file for every device.

    The keys of the file are the fields of the class, with the unit in the name. `sources` says for a key where its
    value comes from, and must name only keys that exist; `validation` lists what the model was held against.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    description: Annotated[str, Field(min_length=1, max_length=400)]
    batch: Count = 1
    """Images that the hardware works on at once, unless the user asks for another number."""
    sources: dict[str, str] = Field(default_factory=dict)
    validation: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _sources_name_keys(self) -> Self:
        unknown = sorted(set(self.sources) - set(type(self).model_fields))
        if unknown:
            raise ValueError(f"sources names {', '.join(unknown)}, which are not keys of this device")
        return self

    @abstractmethod
    def table(self, layers: Sequence[Layer], *, batch: int | None = None) -> CostTable:
        """Price every layer at every pair of widths; see `hardware_sim.cost.CostModel`."""

    @property
    def bytes_per_s(self) -> float | None:
        """What main memory delivers; None where the model does not know."""
        return None

    def peak_macs_per_s(self, w_bits: Bits, a_bits: Bits) -> float | None:  # noqa: ARG002 (for subclasses)
        """Multiply-accumulates per second with every unit busy; None for widths that the device cannot compute."""
        return None

    def ridge_point(self, w_bits: Bits, a_bits: Bits) -> float | None:
        """MACs per byte above which a layer is bound by compute (Williams et al., "Roofline", CACM 2009)."""
        peak, bandwidth = self.peak_macs_per_s(w_bits, a_bits), self.bytes_per_s
        return None if peak is None or bandwidth is None else peak / bandwidth


def resolve_batch(device: Accelerator, batch: int | None) -> int:
    """The batch that was asked for, or the device's own. Raises UnsupportedError outside 1..MAX_BATCH."""
    size = device.batch if batch is None else batch
    if not 1 <= size <= MAX_BATCH:
        raise UnsupportedError(f"batch must be from 1 to {MAX_BATCH}, got {size}")
    return size
