"""Sizes of the layers of a Darknet network, known before memory is taken for them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import nn

from haq.network.models.darknet.cfg import Section
from haq.network.models.darknet.network import Step
from haq.network.models.yolo.heads import YoloHead
from haq.network.models.yolo.loss import LossSettings

Shape = tuple[int, int, int]
"""Channels, height and width."""


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """Layer whose size is known, before memory is taken for it.

    Attributes:
        build: Function that builds the layer.
        sources: Numbers of the layers that it reads.
        shape: Channels, height and width of its output.
        weights: Number of its weights.
    """

    build: Callable[[], nn.Module]
    sources: tuple[int, ...]
    shape: Shape
    weights: int = 0


@dataclass(slots=True)
class Plan:
    """Layers that were read so far.

    Attributes:
        image: Channels, height and width of an image.
        steps: The layers.
        heads: The heads, by the number of the layer whose output is that of the head.
        classes: Numbers of classes of the heads.
        settings: Thresholds of the loss, of all heads; None before the first.
    """

    image: Shape
    steps: list[Step] = field(default_factory=list)
    heads: dict[int, YoloHead] = field(default_factory=dict)
    classes: set[int] = field(default_factory=set)
    settings: LossSettings | None = None

    @property
    def last(self) -> int:
        """Number of the last layer, -1 for the image."""
        return len(self.steps) - 1

    def shape(self, number: int) -> Shape:
        """Return the shape of a layer's output.

        Args:
            number: Number of the layer, -1 for the image.

        Returns:
            Channels, height and width.
        """
        return self.image if number < 0 else self.steps[number].shape

    def sources(self, section: Section, name: str) -> tuple[int, ...]:
        """Read the numbers of layers.

        Args:
            section: Section of the layer that reads them.
            name: Option with the numbers; negative ones count back from this layer.

        Returns:
            Numbers from 0.

        Raises:
            UserError: There is no such layer before this one.
        """
        given = section.integers(name)
        here = len(self.steps)
        found = tuple(number if number >= 0 else here + number for number in given)
        for number, source in zip(given, found, strict=True):
            if not 0 <= source < here:
                raise section.error(f"{name}={number} is no layer before this one, which is layer {here}")
        return found
