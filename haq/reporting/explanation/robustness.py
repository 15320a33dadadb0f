"""Robustness of a policy to errors in the modelled costs and to other calibration images."""

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from haq.config import SearchConfig
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.experiment.inputs import Inputs
from haq.experiment.loading import load_configured, task_options
from haq.experiment.preparation import prepare_network
from haq.policy import Policy
from haq.tasks import load_task
from haq.tasks.base import Task
from haq.tasks.optional import RecalibratableTask

SPREAD, DRAWS, SEED = 0.1, 1000, 0
CLOSE = 0.005
"""Largest difference that counts as close: of fractions, and relative to the value of other scores."""


@dataclass(frozen=True, slots=True)
class CostNoise:
    """Share of random cost errors at which a policy stays within a budget.

    Attributes:
        objective: Name of the cost.
        headroom: Budget over modelled cost.
        spread: Largest relative error, uniform in both directions.
        draws: Number of draws.
        together: Share of draws within the budget when all layers have the same relative error.
        apart: Share of draws within the budget when every layer has an independent error.
    """

    objective: str
    headroom: float
    spread: float
    draws: int
    together: float
    apart: float


@dataclass(frozen=True, slots=True)
class Recalibrated:
    """Score of a policy with quantizers from other images.

    Attributes:
        images: Number of calibration images.
        shared: Number of images that are also among the run's.
        search_accuracy: Score on the search split after the new calibration.
        search_accuracy_before: Score on the search split in the run.
        is_close: Whether these differ by at most half a point, or by 0.5 % if the metric is no percentage.
    """

    images: int
    shared: int
    search_accuracy: float
    search_accuracy_before: float
    is_close: bool


def cost_noise(objective: str, layer_costs: NDArray[np.float64], limit: float) -> CostNoise:
    """Estimate how often a policy stays within a limit if the modelled costs are wrong.

    The costs of the layers are multiplied by random factors, uniform in 1 - `SPREAD` to 1 + `SPREAD`: by one factor for
    all layers, or by an independent one for each.

    Args:
        objective: Name of the cost.
        layer_costs: Modelled cost of every layer, [layer], in SI units.
        limit: Budget for their sum, in the same unit.

    Returns:
        The shares of draws within the limit.

    Examples:
        >>> cost_noise("latency", np.array([1.0, 1.0]), 2.2).together
        1.0
    """
    generator = np.random.default_rng(SEED)
    together = generator.uniform(1 - SPREAD, 1 + SPREAD, DRAWS) * layer_costs.sum()
    apart = generator.uniform(1 - SPREAD, 1 + SPREAD, (DRAWS, len(layer_costs))) @ layer_costs
    total = float(layer_costs.sum())
    common, independent = (float((sums <= limit * (1 + 1e-12)).mean()) for sums in (together, apart))
    return CostNoise(objective, limit / total if total else inf, SPREAD, DRAWS, common, independent)


def recalibrated(config: SearchConfig, policy: Policy, before: float, *, inputs: Inputs) -> Recalibrated:
    """Calibrate the quantizers of a policy on other images, and evaluate it on the search split.

    Args:
        config: Settings of the run.
        policy: Policy to evaluate.
        before: Its score on the search split in the run.
        inputs: Model and task of a run whose configuration cannot name them.

    Returns:
        The score before and after.

    Raises:
        UserError: The data have no other images for calibration.
    """
    model = load_configured(config) if inputs.model is None else inputs.model
    task = load_task(config.data, model=model, options=task_options(config)) if inputs.task is None else inputs.task
    other, shared = other_calibration(task)
    network = prepare_network(config, model=model, task=other)
    evaluator = Evaluator(network.engine, other, "search", batch_size=config.eval_batch)
    accuracy = evaluator.evaluate(policy.w_bits, policy.a_bits).accuracy
    limit = CLOSE if other.metric.is_percent else CLOSE * abs(before)
    is_close = abs(accuracy - before) <= limit + 1e-9
    return Recalibrated(other.size("calibration"), shared, accuracy, before, is_close)


def other_calibration(task: Task) -> tuple[Task, int]:
    """Select calibration images from the other end of the training images.

    Args:
        task: Task of the run.

    Returns:
        The task with these images, and the number of images that both calibrations use.

    Raises:
        UserError: There are no other images.
    """
    other = task.with_other_calibration() if isinstance(task, RecalibratableTask) else None
    if other is None:
        count = task.size("calibration")
        raise UserError(
            f"{task.name} has no images to calibrate on but the {count} that the run had; leave out --robust"
        )
    return other
