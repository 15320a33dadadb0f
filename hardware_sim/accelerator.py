"""What every device file says of itself, whatever the architecture."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hardware_sim.cost import CostTable
from hardware_sim.layer import Layer

Count = Annotated[int, Field(strict=True, ge=1, le=2**31)]
"""A whole number of things: rows, words, images."""
ClockHz = Annotated[float, Field(ge=1e3, le=1e11, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


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
