"""Losses of quantizing weights or input of one layer to one width, measured while everything else stays in float."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from haq.errors import UserError
from haq.evaluation.protocols import Engine
from haq.execution.structures import Structure
from haq.experiment.prior.layer_losses import LayerLosses, LossKind
from haq.experiment.problem import Network
from haq.policy import PolicyBits
from haq.quantization.range import ALL_BITS
from haq.tasks.base import Task
from haq.tasks.predictions import predictions
from hardware_sim.cost import Bits

Part = Literal["weights", "input"]
PRIOR_IMAGES = 64
"""Images of which a prior is computed; a few dozen are enough (results/rewards.md)."""
DOCUMENT = "sensitivity.json"
"""File of a folder of sensitivities."""
PARTS: tuple[Part, ...] = get_args(Part)


class Cell(NamedTuple):
    """One part of one layer, quantized to one width.

    Attributes:
        layer: Index of the layer.
        part: Weights or input.
        bits: Width.
    """

    layer: int
    part: Part
    bits: int


@dataclass(frozen=True, slots=True)
class CellResult:
    """Performance of a network with one cell quantized.

    Attributes:
        loss: Loss of the task, mean over the images.
        accuracy: Score of the task.
        divergence: Mean KL divergence, in nats, of the outputs from the float network's.
        noise: Relative output error, as in `haq.evaluation.protocols.Evaluation`.
    """

    loss: float
    accuracy: float
    divergence: float
    noise: float


def cells(layers: int, widths: Sequence[int]) -> list[Cell]:
    """List the parts of all layers at all widths.

    Args:
        layers: Number of layers.
        widths: Widths in bits.

    Returns:
        Cells by layer, part and width.

    >>> cells(1, [2, 3])[-1]
    Cell(layer=0, part='input', bits=3)
    """
    return [Cell(layer, part, bits) for layer in range(layers) for part in PARTS for bits in widths]


def cell_policy(cell: Cell, layers: int) -> PolicyBits:
    """Return the policy that quantizes one cell and leaves everything else in float.

    Args:
        cell: The cell.
        layers: Number of layers.

    Returns:
        (w_bits, a_bits) of all layers; None is float.

    >>> cell_policy(Cell(1, "input", 4), layers=2)
    ((None, None), (None, 4))
    """
    chosen: tuple[Bits, ...] = tuple(cell.bits if layer == cell.layer else None for layer in range(layers))
    floats: tuple[Bits, ...] = (None,) * layers
    return (chosen, floats) if cell.part == "weights" else (floats, chosen)


class Sensitivities:
    """Measures cells on the first calibration images, with the engine's corrections.

    Args:
        engine: Engine that runs the network.
        task: Task with the calibration images.
        images: Number of images.
        batch_size: Images that are run at once.

    Attributes:
        images: Number of images.
        floats: Performance of the float network.

    Raises:
        UserError: There are fewer images, or the float network's outputs are not finite.
    """

    def __init__(self, engine: Engine, task: Task, *, images: int, batch_size: int = 256) -> None:
        if not 1 <= images <= task.size("calibration"):
            raise UserError(f"{images} images asked of calibration, which has {task.size('calibration')}")
        self._engine, self._task, self.images = engine, task, images
        self._batch_size = min(images, batch_size)
        self._references: list[Structure] = []
        self.floats = self._measure(None)

    def measure(self, cell: Cell, layers: int) -> CellResult:
        """Run the network with one cell quantized.

        Args:
            cell: The cell.
            layers: Number of layers of the network.

        Returns:
            Its performance.
        """
        return self._measure(cell_policy(cell, layers))

    def forward_images(self, measured: int) -> int:
        """Return the number of images that measuring some cells takes, the float network included.

        Args:
            measured: Number of cells.

        Returns:
            Number of images.
        """
        return self.images + measured * (self.images + self._engine.images_per_policy)

    @torch.no_grad()
    def _measure(self, bits: PolicyBits | None) -> CellResult:
        task, size = self._task, self._batch_size
        answered = predictions(self._engine.runner(bits), task, "calibration", batch_size=size, limit=self.images)
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
        return CellResult(loss / self.images, score, divergence / self.images, error / (signal or 1.0))


def network_sensitivities(network: Network) -> LayerLosses:
    """Measure the relative output errors of all layers at all widths, on the images that `network_fisher` takes.

    Takes as long as evaluating sixteen policies per layer on these images.

    Args:
        network: The prepared network.

    Returns:
        The losses.
    """
    return measured_losses(network, range(len(network.priced.layers)))


def measured_losses(network: Network, layers: Sequence[int], *, loss: LossKind = "noise") -> LayerLosses:
    """Measure the losses of some layers at all widths.

    Args:
        network: The prepared network.
        layers: Indices of the layers.
        loss: Which loss.

    Returns:
        Losses [len(layers), part, bits - 1].
    """
    images = min(PRIOR_IMAGES, network.task.size("calibration"))
    measuring = Sensitivities(network.engine, network.task, images=images)
    wanted = [Cell(layer, part, bits) for layer in layers for part in PARTS for bits in ALL_BITS]
    total = len(network.priced.layers)
    found = np.array([getattr(measuring.measure(cell, total), loss) for cell in wanted])
    return LayerLosses(found.reshape(-1, len(PARTS), len(ALL_BITS)), measuring.forward_images(len(wanted)))
