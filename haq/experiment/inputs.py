"""What a caller hands over as objects, in place of what a configuration names."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from envs.choices import IntArray
from haq.evaluation.protocols import Store
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.problem import Network
from haq.tasks.base import Task

Observations = Sequence[tuple[IntArray, float]]
"""Policies [decision, 2] with their scores, each once."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """Objects that take the place of what a configuration names.

    Attributes:
        model: The network.
        task: Its data.
        network: A prepared network, with its task.
        store: Evaluations of other searches.
        losses: The loss of every layer at every width.
        observations: Policies of other searches with their scores, tried first.
    """

    model: nn.Module | None = None
    task: Task | None = None
    network: Network | None = None
    store: Store | None = None
    losses: LayerLosses | None = None
    observations: Observations = ()

    @classmethod
    def of(cls, model: nn.Module | str | None, task: Task | str | None) -> "Inputs":
        """The model and the task that are objects and not names."""
        return cls(model if isinstance(model, nn.Module) else None, None if isinstance(task, str) else task)


def names_of(model: nn.Module | str | None, task: Task | str | None) -> dict[str, str]:
    """The settings that name a model and a task, which may be objects; without an entry for what is None."""
    names: dict[str, str] = {}
    if model is not None:
        names["model"] = model if isinstance(model, str) else type(model).__name__
    if task is not None:
        names["data"] = task if isinstance(task, str) else task.name
    return names
