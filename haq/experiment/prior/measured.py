"""What each layer loses at each width, alone: weights and inputs apart, everything else in float."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from haq.errors import UserError
from haq.evaluation.protocols import Engine
from haq.execution.structures import Structure
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.problem import Network
from haq.policy import PolicyBits
from haq.quantization.range import ALL_BITS
from haq.tasks.base import Task
from haq.tasks.predictions import predictions
from hardware_sim.cost import Bits

Part = Literal["weights", "input"]
PRIOR_IMAGES = 64
"""That a prior is made from; a few dozen are enough (results/rewards.md)."""
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
    noise: float
    """Power of what the outputs differ by, as in `haq.evaluation.protocols.Evaluation`."""


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
        self._references: list[Structure] = []
        self.floats = self._measure(None)

    def measure(self, cell: Cell, layers: int) -> Loss:
        """What a cell loses."""
        return self._measure(cell_policy(cell, layers))

    def forward_images(self, measured: int) -> int:
        """The images that measuring so many cells takes, the float pass included."""
        return self.images + measured * (self.images + self._engine.images_per_policy)

    @torch.no_grad()
    def _measure(self, bits: PolicyBits | None) -> Loss:
        task, size = self._task, self._batch_size
        answered = predictions(self._engine.outputs(bits), task, "calibration", batch_size=size, limit=self.images)
        meter, loss, divergence, error, signal = task.meter(), 0.0, 0.0, 0.0, 0.0
        for number, each in enumerate(answered):
            meter.update(each.outputs, each.targets)
            loss += each.items * task.loss(each.outputs, each.targets).item()
            if bits is None:
                self._references.append(each.outputs)
            distance = task.distance(each.outputs, self._references[number])
            divergence += distance.divergence.item()
            error += distance.error.item()
            signal += distance.signal.item()
        if bits is None and not np.isfinite(loss):
            raise UserError("the float network's outputs on calibration images hold NaN or infinity")
        score = task.metric.score(meter.compute())
        return Loss(loss / self.images, score, divergence / self.images, error / (signal or 1.0))


def network_sensitivities(network: Network) -> LayerLosses:
    """The noise of every change alone, on the images that `haq.experiment.prior.fisher` looks at.

    Costs as much as trying sixteen policies for every layer, on these images. Fewer images are taken where calibration
    has no more.
    """
    return measured_losses(network, range(len(network.priced.layers)))


def measured_losses(
    network: Network, layers: Sequence[int], *, loss: Literal["divergence", "noise"] = "noise"
) -> LayerLosses:
    """The same for some layers, in their order."""
    images = min(PRIOR_IMAGES, network.task.size("calibration"))
    measuring = Sensitivities(network.engine, network.task, images=images)
    wanted = [Cell(layer, part, bits) for layer in layers for part in PARTS for bits in ALL_BITS]
    total = len(network.priced.layers)
    found = np.array([getattr(measuring.measure(cell, total), loss) for cell in wanted])
    return LayerLosses(found.reshape(-1, len(PARTS), len(ALL_BITS)), measuring.forward_images(len(wanted)))
