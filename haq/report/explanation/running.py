"""Why this policy: what its run makes one believe of it, what more budget would buy, and what it stands on.

Nothing is evaluated, but for the second calibration that `--robust` asks for. The journal tells what policies earned,
the device's cost table what bits cost; the rest follows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import numpy as np

from envs.choices import Budget, Choices, IntArray, choices
from haq.config import RewardKind, SearchConfig
from haq.costs.pricing import PricedLayers, allowed_bits
from haq.errors import UserError
from haq.experiment.inputs import Inputs
from haq.experiment.problem import prepare_network
from haq.experiment.run_settings import PolicySource, policy_source
from haq.policy import Policy, Width
from haq.report.explanation.findings import Belief, Distance, Exchange, Explanation, Plateau, Price, Step
from haq.report.explanation.robustness import CostNoise, cost_noise, recalibrated
from haq.report.explanation.surrogate import FEWEST, Beliefs, FloatArray, believe, least_loss, loss_of, regrets, relax
from haq.runs.episode import Episode
from haq.runs.records import Record, checked
from haq.runs.run_folder import CONFIG, JOURNAL, POLICY, SUMMARY, RunFolder
from haq.runs.summary import Summary
from haq.searching.journal_checks import is_consistent
from haq.tasks.metrics import metric_of
from hardware_sim.cost import Objective, width_index

DRAWS = 40
"""Of the reward model's terms, for the range of what it believes possible."""
NEAR = 4.0
"""Policies with so many times the winner's noise tell what noise does to accuracy."""
LOW, HIGH = 0.1, 0.9
"""The quantiles of the draws that are shown."""
NOISY: tuple[Objective, ...] = ("latency", "energy")
"""What a device only models; sizes and bit operations are counted."""
_TAKES = "explain takes the folder of a search, as it was written"
_SAME = 1e-9
"""Relative difference of costs that counts as rounding."""


class _Settings(Record):
    """Settings that every search writes; `SearchConfig` says what they may be."""

    model: str
    hardware: str
    objective: Objective
    budget: tuple[str, ...]
    reward: str
    min_bits: Width
    max_bits: Width
    first_last_bits: Width | None
    pin: dict[str, Width]


@dataclass(frozen=True, slots=True)
class _Case:
    """A finished run, and what its bits cost."""

    config: SearchConfig
    summary: Summary
    policy: Policy
    episodes: tuple[Episode, ...]
    priced: PricedLayers
    choice: Choices

    @property
    def winner(self) -> IntArray:
        """The policy, [decision, 2]."""
        return self.choice.decisions(np.array([self.policy.w_bits, self.policy.a_bits], dtype=np.int64).T)

    def decisions(self, episode: Episode) -> IntArray:
        """Return the policy of an episode, [decision, 2]."""
        return self.choice.decisions(episode.bits)

    @property
    def unit(self) -> tuple[str, float]:
        """What differences are counted in, and how many of these a reward of 1 is."""
        in_points = self.config.reward != "fidelity" and metric_of(self.summary.metric).is_percent
        return ("points", 10.0) if in_points else ("reward", 1.0)


def explain(
    path: Path,
    *,
    config: SearchConfig | None = None,
    inputs: Inputs | None = None,
    is_robust: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Explanation:
    """Explain the policy of a finished run from the files in its folder.

    The network is loaded only where the folder does not hold its layers, or for `is_robust`, which calibrates and
    evaluates the policy once more, on other images. `config` holds settings that win over the run's, `inputs` the model
    and the task of a run whose configuration cannot name them. `notify` receives a line for every callable that is
    called because the files name it. Raises UserError for a folder without a finished run, for one with too few
    policies to learn from, and where what is needed is not to be had.
    """
    inputs = inputs or Inputs()
    source = _source(path, config or SearchConfig(), notify)
    if is_robust or inputs != Inputs():
        given_objects = {"model": inputs.model, "data": inputs.task}
        has_network = inputs.network is not None
        source.allow_code(replaced=[name for name, value in given_objects.items() if has_network or value is not None])
    case = _case(source, inputs)
    unit, scale = case.unit
    tried = {case.decisions(episode).tobytes(): episode for episode in reversed(case.episodes)}
    if len(tried) < FEWEST:
        raise UserError(f"{path} tried {len(tried)} different policies; an explanation takes at least {FEWEST}")
    bits = np.array([case.decisions(episode) for episode in tried.values()])
    beliefs = believe(case.choice, bits, np.array([episode.score for episode in tried.values()], dtype=np.float64))
    losses = scale * beliefs.losses
    winner = tried.get(case.winner.tobytes())
    if winner is None:
        raise UserError(f"{path / POLICY} is no policy that this run tried; its own is needed")
    return Explanation(
        model=case.priced.name,
        hardware=case.priced.table.hardware,
        belief=_belief(beliefs, case.winner, winner.score, unit=unit, scale=scale),
        exchange=_exchange(case, list(tried.values()), winner),
        distance=_distance(beliefs, case.winner, scale),
        price=_price(case, losses),
        free=tuple(plateaus(case.choice, case.winner)),
        cost_noise=tuple(_noise(case)),
        calibration=recalibrated(case.config, case.policy, winner.accuracy, inputs=inputs) if is_robust else None,
        notes=tuple(_notes(case)),
    )


def plateaus(choice: Choices, bits: IntArray) -> Iterator[Plateau]:
    """The layers of a policy [decision, 2] that could have more bits for nothing, or save nothing with fewer."""
    for decision, (w_bits, a_bits) in enumerate(bits.tolist()):
        pairs = np.argwhere(choice.allowed[decision]) + 1
        cost = choice.cost[:, decision, pairs[:, 0] - 1, pairs[:, 1] - 1]
        now = choice.cost[:, decision, w_bits - 1, a_bits - 1, None]
        more = pairs[(cost <= now * (1 + _SAME)).all(axis=0) & (pairs >= (w_bits, a_bits)).all(axis=1)]
        fewer = pairs[(cost >= now * (1 - _SAME)).all(axis=0) & (pairs <= (w_bits, a_bits)).all(axis=1)]
        most, least = more[more.sum(axis=1).argmax()].tolist(), fewer[fewer.sum(axis=1).argmin()].tolist()
        if most != least:
            yield Plateau(choice.names[decision], (w_bits, a_bits), tuple(most), tuple(least))


def steps(choice: Choices, bits: IntArray, losses: FloatArray) -> Iterator[Step]:
    """Every change of one layer's bits that leaves the other limits alone; losses [decision, w_bits, a_bits]."""
    total = choice.total(bits)
    for decision, (w_bits, a_bits) in enumerate(bits.tolist()):
        now = choice.cost[:, decision, w_bits - 1, a_bits - 1]
        for w, a in (np.argwhere(choice.allowed[decision]) + 1).tolist():
            added = choice.cost[:, decision, w - 1, a - 1] - now
            within = total + added <= choice.limits * (1 + _SAME)
            gain = losses[decision, w_bits - 1, a_bits - 1] - losses[decision, w - 1, a - 1]
            if within[1:].all() and (w, a) != (w_bits, a_bits):
                name, after = choice.names[decision], bool(within[0])
                yield Step(name, (w_bits, w), (a_bits, a), float(added[0]), float(gain), after)


def _case(source: PolicySource, inputs: Inputs) -> _Case:
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
    choice = choices(
        priced.table, [Budget(each.objective, each.value) for each in summary.budget], allowed_bits(config, priced)
    )
    choice.require_feasible()
    episodes = _episodes(run, len(priced.layers), summary, config.reward)
    case = _Case(config, summary, policy, episodes, priced, choice)
    if not choice.allows(case.winner):
        raise UserError(f"{path / POLICY} has bits that {path / CONFIG} does not allow; the run's own files are needed")
    return case


def _source(path: Path, config: SearchConfig, notify: Callable[[str], None]) -> PolicySource:
    """The policy of a run with its settings. Raises UserError where they are missing, or no search's."""
    settings = RunFolder(path).read_json(CONFIG)
    if settings is None:
        raise UserError(f"{path} holds no finished run: {CONFIG} is missing or damaged")
    checked(_Settings, settings, path / CONFIG, remedy=_TAKES)
    return policy_source(path, config, notify=notify)


def _found(run: RunFolder) -> Summary:
    """The summary. Raises UserError for one that is missing, or that of anything but a search."""
    summary = run.read_json(SUMMARY)
    if summary is None:
        raise UserError(f"{run.path} holds no finished run: {SUMMARY} is missing or damaged")
    if "budget" not in summary:
        raise UserError(f"{run.path} holds no search, or its {SUMMARY} is damaged; {_TAKES}")
    return checked(Summary, summary, run.path / SUMMARY, remedy=_TAKES)


def _episodes(run: RunFolder, layers: int, summary: Summary, reward: RewardKind) -> tuple[Episode, ...]:
    """Read the journal. Raises UserError for missing lines, or one without bits of every layer and their score."""
    lines, episodes = len(run.episodes.objects()), run.episodes.read()
    if lines != summary.episodes:
        raise UserError(
            f"{run.path / JOURNAL} has {lines} whole lines and {SUMMARY} {summary.episodes} episodes; one is damaged"
        )
    whole = list(takewhile(lambda each: _is_whole(each, layers) and is_consistent(each, reward), episodes))
    if len(whole) < lines:
        raise UserError(
            f"{run.path / JOURNAL}, line {len(whole) + 1}: no bits of {layers} layers with score and accuracy"
        )
    return tuple(whole)


def _is_whole(episode: Episode, layers: int) -> bool:
    return len(episode.w_bits) == len(episode.a_bits) == layers


def _belief(beliefs: Beliefs, winner: IntArray, measured: float, *, unit: str, scale: float) -> Belief:
    predicted = beliefs.predict(winner)
    return Belief(unit, beliefs.policies, scale * measured, *(scale * each for each in predicted))


def _exchange(case: _Case, tried: Sequence[Episode], winner: Episode) -> Exchange | None:
    """Fit how many points of search accuracy go with output error: least squares through the float network's zero."""
    fp32 = case.policy.accuracy.get("fp32_search")
    if fp32 is None or case.unit[0] == "points" or not metric_of(case.summary.metric).is_percent:
        return None
    near = [episode for episode in tried if episode.noise <= NEAR * winner.noise]
    noise = np.array([episode.noise for episode in near], dtype=np.float64)
    accuracy = np.array([episode.accuracy for episode in near], dtype=np.float64)
    lost = 100 * (fp32 - accuracy)
    points = float(lost @ noise / (noise @ noise)) if noise.any() else 0.0
    return Exchange(points, len(near)) if points > 0 and len(near) >= FEWEST else None


def _distance(beliefs: Beliefs, winner: IntArray, scale: float) -> Distance:
    choice, losses = beliefs.choice, beliefs.losses
    own, best = loss_of(losses, winner), least_loss(choice, losses)
    draws = regrets(choice, winner, list(beliefs.draw_losses(np.random.default_rng(0), DRAWS)))
    likely = float(regrets(choice, winner, [losses])[0])
    bound, low, high = (scale * own * float(share) for share in (likely, *np.quantile(draws, (LOW, HIGH))))
    integer = max(own - loss_of(losses, best), 0.0)
    differs = (best != winner).any(axis=1)
    names = tuple(name for name, is_other in zip(choice.names, differs, strict=True) if is_other)
    return Distance(bound, low, high, scale * integer, names)


def _price(case: _Case, losses: FloatArray) -> Price:
    choice = case.choice
    limit, price = float(choice.limits[0]), float(relax(choice, losses).prices[0])
    changes = list(steps(choice, case.winner, losses))
    upgrades = [step for step in changes if step.cost > limit * _SAME and step.gain > 0]
    savings = [step for step in changes if step.cost < -limit * _SAME and step.gain <= 0]
    return Price(
        case.config.objective,
        limit,
        float(choice.total(case.winner)[0]),
        0.01 * limit * price,
        max(upgrades, key=lambda step: step.gain / step.cost, default=None),
        min(savings, key=lambda step: step.gain / step.cost, default=None),
    )


def _noise(case: _Case) -> Iterator[CostNoise]:
    at = [
        (layer, width_index(w_bits), width_index(a_bits))
        for layer, (w_bits, a_bits) in enumerate(zip(case.policy.w_bits, case.policy.a_bits, strict=True))
    ]
    for budget in case.summary.budget:
        if budget.objective in NOISY:
            table = case.priced.table.of(budget.objective)
            yield cost_noise(budget.objective, np.array([table[place] for place in at]), budget.value)


def _notes(case: _Case) -> Iterator[str]:
    """What a reader must know of these numbers."""
    now, then = float(case.choice.total(case.winner)[0]), case.policy.cost.value(case.config.objective)
    if then is not None and abs(now - then) > 1e-6 * then:
        yield f"the device has changed since the run: the policy cost {then:.4g} then and costs {now:.4g} now"
    yield from case.priced.table.notes
