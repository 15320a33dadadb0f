"""Problem of a search: a network with its layers, their costs on a device, its data and its budgets."""

from dataclasses import dataclass
from typing import get_args

from torch import nn

from envs.choices import AllowedBits, Budget, Choices
from haq.budgets import ResolvedBudget
from haq.config import SearchConfig
from haq.costs.pricing import PricedLayers
from haq.evaluation.protocols import Engine
from haq.formatting import counted, device_title, format_cost, model_title, percent
from haq.network.layers import Trace
from haq.notebook import notebook_html
from haq.quantization.quantizers import Quantizers
from haq.tables import Table
from haq.tasks.base import SplitName, Task


@dataclass(frozen=True, slots=True)
class PricedModel(PricedLayers):
    """Priced layers with their network and its trace."""

    model: nn.Module
    trace: Trace
    weights: str
    """Hash of the network's parameters and buffers, as policy files have it."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Priced network with its data, its quantizers and the engine that runs it.

    Attributes:
        priced: The network with its layers and their costs.
        task: Its data.
        quantizers: Quantizers of weights and inputs, calibrated when they are first used.
        engine: Engine that runs the quantized network.
        engine_reason: Reason for the choice of this engine, in one line.
    """

    priced: PricedModel
    task: Task
    quantizers: Quantizers
    engine: Engine
    engine_reason: str

    @property
    def calibration_images(self) -> int:
        """Number of images that run through the network for calibration, before the first policy."""
        return self.task.size("calibration")


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """Inputs of a search: network, data, costs, budgets and allowed bits.

    Attributes:
        config: Settings of the search.
        network: The network with its data, quantizers and engine.
        budgets: Budgets as absolute limits, that of the objective first.
        allowed: Bits that the settings allow.
        choice: Allowed bits with their costs and limits, without the rules of the environment.
    """

    config: SearchConfig
    network: Network
    budgets: tuple[ResolvedBudget, ...]
    allowed: AllowedBits
    choice: Choices

    @property
    def priced(self) -> PricedModel:
        """Network with its layers and their costs."""
        return self.network.priced

    @property
    def task(self) -> Task:
        """Data."""
        return self.network.task

    @property
    def limits(self) -> tuple[Budget, ...]:
        """Budgets as absolute limits in SI units, that of the objective first."""
        return tuple(resolved.budget for resolved in self.budgets)

    def _repr_html_(self) -> str:
        """Format network, data, device, budgets and allowed bits for a notebook."""
        config, layers = self.config, counted(len(self.priced.layers), "layer")
        budgets = (
            f"{each.budget.objective} {format_cost(each.budget.objective, each.budget.limit)}, "
            f"{percent(each.ratio)} of 8 bits"
            for each in self.budgets
        )
        sizes = ((split, self.task.size(split)) for split in get_args(SplitName))
        rows = (
            ("network", f"{model_title(config.model)}, {layers}"),
            ("device", f"{device_title(config.hardware)}, batch {self.priced.table.batch}"),
            ("budget", "; ".join(budgets)),
            ("bits", f"{self.allowed.min_bits} to {self.allowed.max_bits}"),
            ("pinned", ", ".join(self.allowed.pinned or ()) or "-"),
            ("data", "; ".join(f"{split} {size}" for split, size in sizes if size)),
            ("engine", self.network.engine_reason),
        )
        return notebook_html("Search problem", [Table(("", ""), rows, text_columns=2)])
