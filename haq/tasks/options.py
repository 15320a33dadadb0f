"""What a user may choose about data."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from haq.config import Normalization
from haq.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """How splits are drawn and images transformed; None leaves a choice to the data set and the model.

    Sizes are in items, `resize` (the shorter side) and `crop` (both sides) in pixels. Raises UserError on values that
    cannot be.
    """

    split_seed: int = 0
    search_from: Literal["val", "train"] = "val"
    search_images: int | None = None
    report_images: int | None = None
    calibration_images: int = 512
    normalize: Normalization | None = None
    resize: int | None = None
    crop: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _CHOICES:
                allowed = _CHOICES[field.name]
                if value not in allowed:
                    raise UserError(f"{field.name} is {value!r}; choose one of {', '.join(map(str, allowed))}")
            elif value is not None and value < (0 if field.name == "split_seed" else 1):
                raise UserError(f"{field.name} is {value}; it must be a positive number")

    @property
    def changes_transform(self) -> bool:
        return any(value is not None for value in (self.normalize, self.resize, self.crop))


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "search_from": ("val", "train"),
    "normalize": (None, *get_args(Normalization)),
}
