"""Options of data: how splits are drawn and images transformed."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from haq.errors import UserError
from haq.settings import Normalization


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskOptions:
    """Options of a task; None leaves a choice to the data set and the model.

    Attributes:
        split_seed: Seed of the order in which items are drawn.
        search_from: Part that the search split is drawn from.
        search_images: Number of items drawn for search and selection.
        report_images: Number of items of the report split.
        calibration_images: Number of items of the calibration split.
        normalize: Name of the mean and standard deviation of pixels.
        resize: Length of the shorter side after resizing, in pixels.
        crop: Side of the central square that is kept, in pixels.
        input: Shape [c, h, w] of one input; used where images are resized to the network's input.

    Raises:
        UserError: A value is not allowed.
    """

    split_seed: int = 0
    search_from: Literal["val", "train"] = "val"
    search_images: int | None = None
    report_images: int | None = None
    calibration_images: int = 512
    normalize: Normalization | None = None
    resize: int | None = None
    crop: int | None = None
    input: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _CHOICES:
                allowed = _CHOICES[field.name]
                if value not in allowed:
                    raise UserError(f"{field.name} is {value!r}; choose one of {', '.join(map(str, allowed))}")
            elif isinstance(value, int) and value < (0 if field.name == "split_seed" else 1):
                raise UserError(f"{field.name} is {value}; it must be a positive number")

    @property
    def changes_transform(self) -> bool:
        """Whether an option of the transform is given."""
        return any(value is not None for value in (self.normalize, self.resize, self.crop))


_CHOICES: dict[str, tuple[str | None, ...]] = {
    "search_from": ("val", "train"),
    "normalize": (None, *get_args(Normalization)),
}


def require_no_transform(spec: str, options: TaskOptions) -> None:
    """Refuse options that change the transform of images, for data without images in files.

    Args:
        spec: Name of the data.
        options: Options.

    Raises:
        UserError: An option changes the transform.
    """
    if options.changes_transform:
        raise UserError(f"normalize, resize and crop do not apply to {spec}, whose items are not pictures in files")
