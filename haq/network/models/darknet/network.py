"""Networks of Darknet's sections: layers that read the outputs of layers before them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from haq.network.models.yolo.blocks import ACTIVATIONS, require_sides
from haq.network.models.yolo.heads import YoloHeads


class Route(nn.Module):
    """Concatenation of the channels of layers, or one group of them: Darknet's `[route]`.

    Args:
        groups: Number of groups that the channels of each layer are divided into.
        group: Number of the group that is taken, from 0.
    """

    def __init__(self, groups: int = 1, group: int = 0) -> None:
        super().__init__()
        self.groups, self.group = groups, group

    def forward(self, *features: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            features: Outputs [n, c, h, w] of layers, of one size.

        Returns:
            Joined channels [n, sum of c / groups, h, w].
        """
        taken = [each.chunk(self.groups, dim=1)[self.group] if self.groups > 1 else each for each in features]
        return taken[0] if len(taken) == 1 else torch.cat(taken, dim=1)


class Shortcut(nn.Module):
    """Sum of the outputs of layers, and an activation: Darknet's `[shortcut]`.

    Args:
        activation: Name of the activation.
    """

    def __init__(self, activation: str = "linear") -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]()

    def forward(self, first: Tensor, *others: Tensor) -> Tensor:
        """Apply the layer.

        Args:
            first: Output [n, c, h, w] of a layer.
            others: Outputs of other layers, of the same shape.

        Returns:
            The sum, of the same shape.
        """
        total = first
        for other in others:
            total = total + other
        activated: Tensor = self.activation(total)
        return activated


@dataclass(frozen=True, slots=True)
class Step:
    """Layer of a Darknet network.

    Attributes:
        module: The layer; its name is its number in the cfg file, from 0 and without `[net]`.
        sources: Numbers of the layers that it reads, -1 for the image.
        shape: Channels, height and width of its output at the size in the cfg file.
    """

    module: nn.Module
    sources: tuple[int, ...]
    shape: tuple[int, int, int]


class DarknetNetwork(nn.Module):
    """Network that a cfg file describes, for images of RGB values in [0, 1].

    Args:
        steps: The layers, in order of execution.
        outputs: Numbers of the layers whose outputs are those of the network.
        detection: Meaning of these outputs.
        input_size: Height and width of images, pixels.
    """

    def __init__(
        self, steps: Sequence[Step], outputs: Sequence[int], detection: YoloHeads, *, input_size: tuple[int, int]
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(step.module for step in steps)
        self.sources = tuple(step.sources for step in steps)
        self.outputs = tuple(outputs)
        self.detection = detection
        self.input_size = input_size
        used = dict.fromkeys(outputs, len(steps))
        for number in range(len(steps) - 1, -1, -1):
            for source in self.sources[number]:
                used.setdefault(source, number)
        self._last_uses = used

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Compute the raw outputs of the heads.

        Args:
            x: Images [n, c, h, w].

        Returns:
            Outputs [n, anchors * (5 + classes), h / stride, w / stride] of each head, in the order of the file.

        Raises:
            ValueError: A side is no multiple of the largest stride.
        """
        require_sides(x, max(head.stride for head in self.detection.heads))
        found = {-1: x}
        for number, (layer, sources) in enumerate(zip(self.layers, self.sources, strict=True)):
            found[number] = layer(*(found[source] for source in sources))
            for source in {*sources, number}:
                if self._last_uses.get(source, -1) <= number:  # not read again: free its memory
                    del found[source]
        return tuple(found[number] for number in self.outputs)
