"""Finished search, read from its folder: settings, summary, policy, episodes and the costs of bits."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.policy_keys import to_key
from envs.building import build_choices
from envs.choices import Budget, Choices, IntArray
from haq.config import SearchConfig
from haq.costs.pricing import PricedLayers, allowed_bits
from haq.errors import UserError
from haq.experiment.inputs import Inputs
from haq.experiment.policy_source import PolicySource, policy_source
from haq.experiment.preparation import prepare_network
from haq.layer_bits import Width
from haq.policy import Policy
from haq.runs.episode import Episode
from haq.runs.records import Record, checked
from haq.runs.run_folder import CONFIG, JOURNAL, POLICY, SUMMARY, RunFolder
from haq.runs.summary import Summary
from haq.searching.journal_checks import is_consistent
from haq.settings import RewardKind
from haq.tasks.metrics import metric_of
from hardware_sim.cost import Objective

_TAKES = "explain takes the folder of a search, as it was written"


class _Settings(Record):
    """Settings that every search writes; `SearchConfig` validates their values."""

    model: str
    hardware: str
    objective: Objective
    budget: tuple[str, ...]
    reward: str
    min_bits: Width
    max_bits: Width
    first_last_bits: Width | None
    pin: dict[str, Width]


class Trial(NamedTuple):
    """What a policy was worth in a search."""

    score: float
    noise: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class SearchCase:
    """Finished search with its evaluations and the costs of all bits.

    Attributes:
        config: Settings of the search.
        summary: Summary of the search.
        policy: Policy that the search found.
        trials: What every policy was worth that could be evaluated, by `agents.policy_keys.to_key` of its decisions.
        priced: Layers of the network with their costs on the device.
        choice: Allowed bits, their costs and the budgets.
    """

    config: SearchConfig
    summary: Summary
    policy: Policy
    trials: Mapping[bytes, Trial]
    priced: PricedLayers
    choice: Choices

    @property
    def winner(self) -> IntArray:
        """Bits of the policy that was found, [decision, 2], weights before activations."""
        return self.choice.decisions(np.array([self.policy.w_bits, self.policy.a_bits], dtype=np.int64).T)

    @property
    def unit(self) -> tuple[str, float]:
        """Unit of reported differences, and the factor that converts a reward to it."""
        in_points = self.config.reward != "fidelity" and metric_of(self.summary.metric).is_percent
        return ("points", 10.0) if in_points else ("reward", 1.0)


def read_case(source: PolicySource, inputs: Inputs) -> SearchCase:
    """Read a finished run and price its layers.

    Args:
        source: The policy of the run and its settings.
        inputs: Model and task of a run whose configuration cannot name them.

    Returns:
        The run with the costs of all bits.

    Raises:
        UserError: Files of the run are missing, damaged or do not fit together.
        BudgetError: No policy is within the budgets of the summary.
    """
    run, config, policy = source.folder, source.config, source.policy
    assert run is not None
    path = run.path
    summary = _found(run)
    if inputs == Inputs():
        priced = source.priced()
    else:
        network = inputs.network or prepare_network(config, model=inputs.model, task=inputs.task)
        priced = network.priced
        policy.check_fits(priced.layers, model=priced.name)
    if None in (*policy.w_bits, *policy.a_bits):
        raise UserError(f"{path / POLICY} leaves layers in float, which no search does; the run's own is needed")
    choice = build_choices(
        priced.table, [Budget(each.objective, each.value) for each in summary.budget], allowed_bits(config, priced)
    )
    choice.require_feasible()
    trials = _trials(_episodes(run, len(priced.layers), summary, config.reward), choice)
    case = SearchCase(config, summary, policy, trials, priced, choice)
    if not choice.allows(case.winner):
        raise UserError(f"{path / POLICY} has bits that {path / CONFIG} does not allow; the run's own files are needed")
    return case


def read_source(path: Path, config: SearchConfig, notify: Callable[[str], None]) -> PolicySource:
    """Read the policy of a run and its settings.

    Args:
        path: Folder of the run.
        config: Settings that take precedence over the run's.
        notify: Receives a line for every callable that is called because the files name it.

    Returns:
        The policy with the settings that hold for it.

    Raises:
        UserError: Files are missing or damaged, or are not those of a search.
    """
    settings = RunFolder(path).read_json(CONFIG)
    if settings is None:
        raise UserError(f"{path} holds no finished run: {CONFIG} is missing or damaged")
    checked(_Settings, settings, path / CONFIG, remedy=_TAKES)
    return policy_source(path, config, notify=notify)


def _found(run: RunFolder) -> Summary:
    """Read the summary of a search.

    Raises:
        UserError: It is missing, damaged, or that of another command.
    """
    summary = run.read_json(SUMMARY)
    if summary is None:
        raise UserError(f"{run.path} holds no finished run: {SUMMARY} is missing or damaged")
    if "budget" not in summary:
        raise UserError(f"{run.path} holds no search, or its {SUMMARY} is damaged; {_TAKES}")
    return checked(Summary, summary, run.path / SUMMARY, remedy=_TAKES)


def _trials(episodes: Iterable[Episode], choice: Choices) -> dict[bytes, Trial]:
    """Keep what explanations take of each policy; of equal policies the first, of failed ones none."""
    trials: dict[bytes, Trial] = {}
    for episode in episodes:
        if episode.failure is None:
            trial = Trial(episode.score, episode.noise, episode.accuracy)
            trials.setdefault(to_key(choice.decisions(episode.bits)), trial)
    return trials


def _episodes(run: RunFolder, layers: int, summary: Summary, reward: RewardKind) -> Iterator[Episode]:
    """Read the journal, one line at a time: a long search has more episodes than fit in memory.

    Raises:
        UserError: Lines are missing, or a line lacks the bits of a layer, the score or the accuracy.
    """
    count = run.episodes.count()
    if count != summary.episodes:
        raise UserError(
            f"{run.path / JOURNAL} has {count} whole lines and {SUMMARY} {summary.episodes} episodes; one is damaged"
        )
    episodes = run.episodes.stream(remedy="the search has to be run again in another --out")
    for number, episode in enumerate(episodes, start=1):
        if not (_is_whole(episode, layers) and is_consistent(episode, reward)):
            raise UserError(f"{run.path / JOURNAL}, line {number}: no bits of {layers} layers with score and accuracy")
        yield episode


def _is_whole(episode: Episode, layers: int) -> bool:
    return len(episode.w_bits) == len(episode.a_bits) == layers
