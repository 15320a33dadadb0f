"""What each layer loses at each width, alone: weights and inputs apart, everything else in float."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor

from haq.errors import UserError
from haq.evaluation.protocols import Engine, PolicyBits
from haq.quantizers.range import MAX_BITS
from haq.tasks.base import Batch, Task
from hardware_sim.cost import Bits

FloatArray = NDArray[np.float64]
Part = Literal["weights", "input"]
DOCUMENT = "sensitivity.json"
"""The file of a folder that holds all cells."""
PARTS: tuple[Part, ...] = get_args(Part)


class Cell(NamedTuple):
    """One layer with one part of it quantized, to one width."""

    layer: int
    part: Part
    bits: int


@dataclass(frozen=True, slots=True)
class Loss:
    """How well the network does, and how far it is from the float network."""

    loss: float
    """The task's, mean over the images."""
    accuracy: float
    """The task's score."""
    divergence: float
    """Mean KL divergence, in nats, of the outputs from the float network's."""


def cells(layers: int, widths: Sequence[int]) -> list[Cell]:
    """Every layer's parts at every width.

    >>> cells(1, [2, 3])[-1]
    Cell(layer=0, part='input', bits=3)
    """
    return [Cell(layer, part, bits) for layer in range(layers) for part in PARTS for bits in widths]


def cell_policy(cell: Cell, layers: int) -> PolicyBits:
    """The policy that quantizes nothing but a cell.

    >>> cell_policy(Cell(1, "input", 4), layers=2)
    ((None, None), (None, 4))
    """
    chosen: tuple[Bits, ...] = tuple(cell.bits if layer == cell.layer else None for layer in range(layers))
    floats: tuple[Bits, ...] = (None,) * layers
    return (chosen, floats) if cell.part == "weights" else (floats, chosen)


class Sensitivities:
    """Measures cells on the first `images` calibration images; corrections are those that the engine makes.

    Raises UserError where there are not as many images, or the float network's outputs are not finite.
    """

    def __init__(self, engine: Engine, task: Task, *, images: int, batch_size: int = 256) -> None:
        if not 1 <= images <= task.size("calibration"):
            raise UserError(f"{images} images asked of calibration, which has {task.size('calibration')}")
        self._engine, self._task, self.images = engine, task, images
        self._batch_size = min(images, batch_size)
        self._log_probabilities: list[Tensor] = []
        self.floats = self._measure(None)

    def measure(self, cell: Cell, layers: int) -> Loss:
        """What a cell loses."""
        return self._measure(cell_policy(cell, layers))

    def forward_images(self, measured: int) -> int:
        """The images that measuring so many cells takes, the float pass included."""
        return self.images + measured * (self.images + self._engine.images_a_policy)

    @torch.no_grad()
    def _measure(self, bits: PolicyBits | None) -> Loss:
        metric, network, loss, divergence = self._task.metric(), self._engine.outputs(bits), 0.0, 0.0
        for number, (inputs, targets) in enumerate(self._batches()):
            outputs = network(inputs)
            targets = targets.to(outputs.device)  # noqa: PLW2901
            metric.update(outputs, targets)
            loss += len(inputs) * self._task.loss(outputs, targets).item()
            log_probabilities = F.log_softmax(outputs.float().flatten(1), dim=1)
            if bits is None:
                self._log_probabilities.append(log_probabilities)
            reference = self._log_probabilities[number]
            divergence += F.kl_div(log_probabilities, reference, reduction="sum", log_target=True).item()
        if bits is None and not np.isfinite(loss):
            raise UserError("the float network's outputs on calibration images hold NaN or infinity")
        return Loss(loss / self.images, metric.compute(), divergence / self.images)

    def _batches(self) -> Iterator[Batch]:
        whole, rest = divmod(self.images, self._batch_size)
        batches = self._task.batches("calibration", batch_size=self._batch_size)
        yield from islice(batches, whole)
        for inputs, targets in islice(batches, 1 if rest else 0):
            yield inputs[:rest], targets[:rest]


def prior(losses: FloatArray, decision_of_layer: Sequence[int]) -> FloatArray:
    """The loss [decision, w_bits, a_bits] to expect of every pair of bits, from losses [layer, part, bits - 1].

    The losses of weights and input are added, and those of tied layers: what `agents.space.SearchSpace.prior` takes.

    >>> prior(np.arange(16.0).reshape(1, 2, 8), [0])[0, 0, :3]
    array([ 8.,  9., 10.])
    """
    pairs = losses[:, 0, :, None] + losses[:, 1, None, :]
    summed = np.zeros((max(decision_of_layer) + 1, MAX_BITS, MAX_BITS))
    np.add.at(summed, list(decision_of_layer), pairs)
    return summed
