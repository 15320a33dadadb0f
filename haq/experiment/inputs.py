"""Objects that a caller passes instead of the names in a configuration."""

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
    """Objects that replace what a configuration names, and results to share with other runs.

    Attributes:
        model: The network.
        task: Its data.
        network: A prepared network, with its task.
        store: Evaluations of other searches.
        losses: Loss of every layer at every width, for the prior.
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
        """Create inputs from the arguments that are objects.

        Args:
            model: Network, its name or None.
            task: Data, their name or None.

        Returns:
            Inputs; names are left out.
        """
        return cls(model if isinstance(model, nn.Module) else None, None if isinstance(task, str) else task)


def names_of(model: nn.Module | str | None, task: Task | str | None) -> dict[str, str]:
    """Return the settings `model` and `data` for a model and a task.

    Args:
        model: Network or its name.
        task: Data or their name.

    Returns:
        Each setting whose argument is not None; an object has the name of its class or task.
    """
    names: dict[str, str] = {}
    if model is not None:
        names["model"] = model if isinstance(model, str) else type(model).__name__
    if task is not None:
        names["data"] = task if isinstance(task, str) else task.name
    return names
