"""Robustness of a policy to errors in the modelled costs and to other calibration images."""

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from haq.config import SearchConfig
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.experiment.inputs import Inputs
from haq.experiment.loading import task_options
from haq.experiment.problem import prepare_network
from haq.network.zoo import load_model
from haq.policy import Policy
from haq.tasks import load_task
from haq.tasks.base import RecalibratableTask, Task

SPREAD, DRAWS, SEED = 0.1, 1000, 0
CLOSE = 0.005
"""Half a point of accuracy."""


@dataclass(frozen=True, slots=True)
class CostNoise:
    """Share of random cost errors at which a policy stays within a budget."""

    objective: str
    headroom: float
    """Budget over modelled cost."""
    spread: float
    """Largest relative error, uniform in both directions."""
    draws: int
    together: float
    """Share of draws within the budget when all layers have the same relative error."""
    apart: float
    """Share of draws within the budget when every layer has an error of its own."""


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """Accuracy of a policy with quantizers from other images."""

    images: int
    shared: int
    """Number of images that are also among the run's."""
    search_accuracy: float
    search_accuracy_before: float
    is_close: bool
    """Whether both lie within half a point of accuracy."""


def cost_noise(objective: str, layer_costs: NDArray[np.float64], limit: float) -> CostNoise:
    """Scale the costs [layer] of a policy at random, and count how often their sum is within the limit.

    >>> cost_noise("latency", np.array([1.0, 1.0]), 2.2).together
    1.0
    """
    generator = np.random.default_rng(SEED)
    together = generator.uniform(1 - SPREAD, 1 + SPREAD, DRAWS) * layer_costs.sum()
    apart = generator.uniform(1 - SPREAD, 1 + SPREAD, (DRAWS, len(layer_costs))) @ layer_costs
    total = float(layer_costs.sum())
    share, own = (float((sums <= limit * (1 + 1e-12)).mean()) for sums in (together, apart))
    return CostNoise(objective, limit / total if total else inf, SPREAD, DRAWS, share, own)


def recalibrated(config: SearchConfig, policy: Policy, before: float, *, inputs: Inputs) -> Recalibrated:
    """Evaluate a policy on the search split with quantizers from other images; `before` is its accuracy in the run.

    Raises UserError where the data have no other images to calibrate on.
    """
    model = load_model(config.model, weights=config.weights) if inputs.model is None else inputs.model
    task = load_task(config.data, model=model, options=task_options(config)) if inputs.task is None else inputs.task
    other, shared = other_calibration(task)
    network = prepare_network(config, model=model, task=other)
    evaluator = Evaluator(network.engine, other, "search", batch_size=config.eval_batch)
    accuracy = evaluator.evaluate(policy.w_bits, policy.a_bits).accuracy
    is_close = abs(accuracy - before) <= CLOSE + 1e-9
    return Recalibrated(other.size("calibration"), shared, accuracy, before, is_close)


def other_calibration(task: Task) -> tuple[Task, int]:
    """Return the task with calibration images from the other end of its training images, and how many it shares.

    Raises:
        UserError: If there are no other images.
    """
    other = task.with_other_calibration() if isinstance(task, RecalibratableTask) else None
    if other is None:
        count = task.size("calibration")
        raise UserError(
            f"{task.name} has no images to calibrate on but the {count} that the run had; leave out --robust"
        )
    return other
