"""Axis of the layers of a network, which figures with a column for every layer share."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from matplotlib.axes import Axes

from haq.reporting.plots.style import GLYPH_WIDTH, POINTS_PER_INCH, SMALL_SIZE

MIN_WIDTH, MAX_WIDTH = 6.4, 16.0
SIDES_INCHES = 0.8
"""Part of the width for y axis and margins."""
SLOT_INCHES = 0.2
"""Width of a layer in figures narrower than `MAX_WIDTH`."""
LONGEST_NAME = 30
LINE_POINTS = 1.2 * SMALL_SIZE
"""Least distance between upright names, in points."""
FEWEST_SLOTS = 6


@dataclass(frozen=True, slots=True)
class LayerAxis:
    """Width of a figure with a column for every layer, and the names below.

    Attributes:
        names: Shortened names of the layers.
        width: Width of the figure, in inches.
        slot_points: Width of a layer, in points.
    """

    names: tuple[str, ...]
    width: float
    slot_points: float

    @classmethod
    def of(cls, names: Sequence[str], *, sides: float = SIDES_INCHES) -> "LayerAxis":
        """Choose the width of a figure.

        Args:
            names: Names of the layers.
            sides: Part of the width beside the layers, in inches.

        Returns:
            The axis.
        """
        width = min(max(MIN_WIDTH, sides + SLOT_INCHES * len(names)), MAX_WIDTH)
        return cls(tuple(map(shortened, names)), width, (width - sides) / len(names) * POINTS_PER_INCH)

    @property
    def is_upright(self) -> bool:
        """Whether the names are too long to be written horizontally."""
        return self._names_points > self.slot_points

    @property
    def _names_points(self) -> float:
        return max(map(len, self.names)) * GLYPH_WIDTH * SMALL_SIZE

    @property
    def inches(self) -> float:
        """Height of the names, in inches."""
        return (self._names_points if self.is_upright else 2 * SMALL_SIZE) / POINTS_PER_INCH

    def label(self, axes: Axes, *, centre: float = 0.0) -> None:
        """Write every name if they fit, otherwise every second, third, ...

        Args:
            axes: Panel below which the names are written.
            centre: Position of the first layer.
        """
        step = ceil(LINE_POINTS / self.slot_points) if self.is_upright else 1
        places = [place + centre for place in range(0, len(self.names), step)]
        axes.set_xticks(places, self.names[::step], rotation=90 if self.is_upright else 0, parse_math=False)

    def limit(self, axes: Axes) -> None:
        """Set the range of a panel whose layers lie at 0, 1, 2, ...; few layers are not stretched over its width.

        Args:
            axes: The panel.
        """
        spare = max(0, FEWEST_SLOTS - len(self.names)) / 2
        axes.set_xlim(-0.7 - spare, len(self.names) - 0.3 + spare)


def shortened(name: str, *, longest: int = LONGEST_NAME) -> str:
    """Shorten a name to its end, which distinguishes layers; digits at the cut are dropped, so that no number is split.

    Args:
        name: Name of a layer or policy.
        longest: Largest number of characters.

    Returns:
        The name, with an ellipsis in place of what was removed.

    Examples:
        >>> shortened("features.17.conv.0.0"), shortened("encoder.layers.layer_11.attention.out_proj", longest=22)
        ('features.17.conv.0.0', '….attention.out_proj')
    """
    return name if len(name) <= longest else f"…{name[1 - longest :].lstrip('0123456789')}"
