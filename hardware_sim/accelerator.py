"""Base class of all devices, and the types of their fields."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_sim.cost import Bits, CostTable, UnsupportedError
from hardware_sim.layer import Layer

MAX_BATCH = 2**16
"""Largest batch: cycles are counted in 64 bits, and no real device processes more images at once."""
# The ranges are wide enough for any real device and narrow enough to catch a number in the wrong unit.
Count = Annotated[int, Field(strict=True, ge=1, le=2**31)]
"""A count of rows, words or images."""
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
    """Base class of devices: one subclass per architecture, one TOML file per device.

    The keys of the file are the fields of the class, with the unit in the name. `sources` maps keys to where their
    values come from, and may only name keys that exist; `validation` lists the references that the model was checked
    against.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)]
    description: Annotated[str, Field(min_length=1, max_length=400)]
    batch: Count = 1
    """Images that the hardware processes at once, unless the caller asks for another number."""
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
        """Compute the cost of every layer at every pair of widths.

        Args:
            layers: Layers in the order of execution.
            batch: Images processed at once; the device's own batch when None.

        Returns:
            Arrays [layer, w_bits, a_bits]; see `hardware_sim.cost.CostModel`.
        """

    @property
    def bytes_per_s(self) -> float | None:
        """Bandwidth of main memory; None where it is not modelled."""
        return None

    def peak_macs_per_s(self, w_bits: Bits, a_bits: Bits) -> float | None:  # noqa: ARG002 (for subclasses)
        """Compute the peak arithmetic rate at a pair of widths.

        Args:
            w_bits: Bits of the weights; None for float.
            a_bits: Bits of the input activations; None for float.

        Returns:
            Multiply-accumulates per second with every unit busy; None for widths that the device does not support.
        """
        return None

    def ridge_point(self, w_bits: Bits, a_bits: Bits) -> float | None:
        """Compute the arithmetic intensity above which a layer is compute-bound.

        As in Williams et al., "Roofline", CACM 2009.

        Args:
            w_bits: Bits of the weights; None for float.
            a_bits: Bits of the input activations; None for float.

        Returns:
            MACs per byte; None where the peak rate or the bandwidth is not modelled.
        """
        peak, bandwidth = self.peak_macs_per_s(w_bits, a_bits), self.bytes_per_s
        return None if peak is None or bandwidth is None else peak / bandwidth


def resolve_batch(device: Accelerator, batch: int | None) -> int:
    """Return the requested batch, or the device's own.

    Args:
        device: The device.
        batch: Images processed at once, or None for the device's own number.

    Returns:
        A number from 1 to `MAX_BATCH`.

    Raises:
        UnsupportedError: The batch is outside that range.
    """
    size = device.batch if batch is None else batch
    if not 1 <= size <= MAX_BATCH:
        raise UnsupportedError(f"batch must be from 1 to {MAX_BATCH}, got {size}")
    return size
