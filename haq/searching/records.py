"""What the files of a search have to hold: its journal, its checkpoint and its summary."""

from collections.abc import Iterable, Mapping
from itertools import takewhile
from math import isclose
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from envs.choices import Choices, IntArray
from haq.costs.pricing import cost_in
from haq.experiment.problem import Problem
from haq.policy import Width
from haq.runs.records import Amount, Count, Finite, Fraction, Metric, Positive, Record, holds
from haq.searching.goals import Line, decided
from hardware_sim.cost import COST_FIELDS, Objective

EndedBy = Literal["episodes", "time", "least cost", "one policy"]
"""Why a search had no further episodes: as many as asked for were run; the time limit was reached; a policy of the
least possible cost met the goal; there is only one policy."""


class Asked(Record):
    """Settings without which nothing may be said of a search; `SearchConfig` says what they may be."""

    model: str
    hardware: str
    objective: Objective
    budget: tuple[str, ...]
    reward: str
    min_bits: Width
    max_bits: Width
    first_last_bits: Width | None
    pin: dict[str, Width]


class Episode(Record):
    """A line of the journal."""

    episode: Count
    w_bits: tuple[Width, ...]
    a_bits: tuple[Width, ...]
    cost: Amount
    accuracy: Finite
    score: Finite
    divergence: Finite
    noise: Amount
    reward: Finite
    actor_loss: Finite | None
    critic_loss: Finite | None
    lost: Count | None = None
    won: Count | None = None


class Checkpoint(Record):
    """Everything that the next episode depends on."""

    episode: Count
    seconds: Amount
    evaluations: Count
    forward_images: Count
    agent: dict[str, Any]


class BudgetRecord(Record):
    """A budget in SI units, and in parts of the 8-bit cost."""

    objective: Objective
    value: Positive
    ratio: Positive


class CostRecord(Record):
    """A policy's cost in SI units; None is what the device does not model."""

    latency_s: Amount | None
    energy_j: Amount | None
    weight_bytes: Amount | None
    bops: Amount | None

    def of(self, objective: Objective) -> float | None:
        """The number that an objective minimises."""
        value: float | None = getattr(self, COST_FIELDS[objective])
        return value


class IntervalRecord(Record):
    """A confidence interval of an accuracy."""

    low: Fraction
    high: Fraction
    confidence: Fraction
    method: str


class EpisodeRecord(Record):
    """A policy by the number of its episode."""

    episode: Count


class UniformRecord(Record):
    """The same bits everywhere."""

    w_bits: Width
    a_bits: Width
    cost: CostRecord
    cost_ratio: Amount
    accuracy: Finite
    interval: IntervalRecord | None = None
    noise: Amount | None = None


class DropRecord(Record):
    """What was lost where only so much might be."""

    limit: Fraction
    search: Finite
    confidence: dict[str, Fraction]
    confidence_required: Fraction | None = None
    confidence_reached: Fraction | None = None


class Summary(Record):
    """What readers need of a finished search."""

    objective: Objective
    metric: Metric
    accuracy_fp32: Finite
    accuracy: Finite
    cost: CostRecord
    cost_ratio: Amount
    budget: Annotated[tuple[BudgetRecord, ...], Field(min_length=1)]
    uniform: tuple[UniformRecord, ...]
    report_images: Count
    search_images: Count
    selection_images: Count = 0
    episodes: Count
    ended_by: EndedBy = "episodes"
    evaluations: Count
    seconds: Amount
    warnings: tuple[str, ...]
    notes: tuple[str, ...] = ()
    max_accuracy_drop: DropRecord | None = None
    interval: IntervalRecord | None = None
    interval_fp32: IntervalRecord | None = None
    noise: Amount | None = None
    winner: EpisodeRecord | None = None
    finalists: tuple[EpisodeRecord, ...] = ()


def own_episodes(problem: Problem, lines: Iterable[Line]) -> list[Line]:
    """The lines of a journal up to the first that no episode of a search for this problem can have written."""
    numbered = takewhile(lambda each: _is_own(problem, *each), enumerate(lines))
    return [line for _, line in numbered]


def _is_own(problem: Problem, number: int, line: Line) -> bool:
    return (
        holds(Episode, line)
        and line["episode"] == number
        and ("lost" in line) == ("won" in line) == (problem.config.confidence is not None)
        and problem.task.metric.allows(line["accuracy"])
        and _is_allowed(problem, line)
        and isclose(line["cost"], _cost(problem, line))
        and isclose(line["score"], earned(problem.config.reward, line), abs_tol=1e-9)
    )


def earned(reward: str, line: Mapping[str, Any]) -> float:
    """The score of a line as its other numbers have it."""
    return float(-line["noise"] if reward == "fidelity" else line["reward"])


def _is_allowed(problem: Problem, line: Line) -> bool:
    """Whether every layer has bits that may be chosen, and tied layers the same."""
    layers = len(problem.priced.layers)
    if not len(line["w_bits"]) == len(line["a_bits"]) == layers:
        return False
    bits = decided(problem, line)
    shared = problem.choice.expand(bits)
    return are_allowed(problem.choice, bits) and np.array_equal(shared.T, [line["w_bits"], line["a_bits"]])


def are_allowed(choice: Choices, bits: IntArray) -> bool:
    """Whether the bits [decision, 2], each from 1 to 8, may be chosen, whatever they cost."""
    return bool(choice.allowed[np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1].all())


def _cost(problem: Problem, line: Line) -> float:
    return cost_in(problem.config.objective, problem.priced.table.policy_cost(line["w_bits"], line["a_bits"]))
