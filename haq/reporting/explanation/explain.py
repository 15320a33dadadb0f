"""Explanation of a policy: its expected distance from the optimum, the value of more budget, and its robustness.

All results are computed from the scores in the journal and the device's cost table. Nothing is evaluated, except for
the second calibration of `is_robust`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from agents.policy_keys import to_key
from envs.choices import Choices, IntArray
from haq.config import SearchConfig
from haq.costs.deployment import end_layers
from haq.errors import UserError
from haq.experiment.inputs import Inputs
from haq.reporting.explanation.case import SearchCase, Trial, read_case, read_source
from haq.reporting.explanation.findings import Belief, Distance, EndCost, Exchange, Explanation, Plateau, Price, Step
from haq.reporting.explanation.robustness import CostNoise, cost_noise, recalibrated
from haq.reporting.explanation.surrogate import (
    MIN_POLICIES,
    FloatArray,
    Surrogate,
    fit_surrogate,
    least_loss,
    loss_of,
    regrets,
    relax,
)
from haq.runs.run_folder import POLICY
from haq.tasks.metrics import metric_of
from hardware_sim.cost import Objective, width_index

DRAWS = 40
"""Samples of the reward model's terms, for the uncertainty of the distance."""
NEAR = 4.0
"""Largest output error, relative to the winner's, of policies in the fit of accuracy to output error."""
LOW, HIGH = 0.1, 0.9
"""Quantiles of the samples that are reported."""
NOISY: tuple[Objective, ...] = ("latency", "energy")
"""Costs that a device models; sizes and bit operations are counted exactly."""
_SAME = 1e-9
"""Relative tolerance of costs for rounding errors."""


def explain(
    path: Path,
    *,
    config: SearchConfig | None = None,
    inputs: Inputs | None = None,
    is_robust: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Explanation:
    """Explain the policy of a finished run from the files in its folder.

    The network is loaded only if the folder does not hold its layers, or for `is_robust`.

    Args:
        path: Folder of the run.
        config: Settings that take precedence over the run's.
        inputs: Model and task of a run whose configuration cannot name them.
        is_robust: Calibrate and evaluate the policy once more, on other images.
        notify: Receives a line for every callable that is called because the files name it.

    Returns:
        All findings on the run.

    Raises:
        UserError: The folder holds no finished run, or too few policies to fit the reward model.
    """
    inputs = inputs or Inputs()
    source = read_source(path, config or SearchConfig(), notify)
    if is_robust or inputs != Inputs():
        given_objects = {"model": inputs.model, "data": inputs.task}
        has_network = inputs.network is not None
        source.allow_code(replaced=[name for name, value in given_objects.items() if has_network or value is not None])
    case = read_case(source, inputs)
    unit, scale = case.unit
    surrogate = _surrogate(case, path)
    losses = scale * surrogate.losses
    winner = case.trials.get(to_key(case.winner))
    if winner is None:
        raise UserError(f"{path / POLICY} is no policy that this run tried; its own is needed")
    return Explanation(
        model=case.priced.name,
        hardware=case.priced.table.hardware,
        metric=metric_of(case.summary.metric),
        belief=_belief(surrogate, case.winner, winner.score, unit=unit, scale=scale),
        exchange=_exchange(case, winner),
        distance=_distance(surrogate, case.winner, scale),
        price=_price(case, losses),
        free=tuple(plateaus(case.choice, case.winner)),
        ends=tuple(end_costs(case)),
        cost_noise=tuple(_noise(case)),
        calibration=recalibrated(case.config, case.policy, winner.accuracy, inputs=inputs) if is_robust else None,
        notes=tuple(_notes(case)),
    )


def _surrogate(case: SearchCase, path: Path) -> Surrogate:
    """Fit the surrogate to all policies that a run tried. Raises UserError if they are too few."""
    trials = case.trials
    if len(trials) < MIN_POLICIES:
        raise UserError(f"{path} tried {len(trials)} different policies; an explanation takes at least {MIN_POLICIES}")
    scores = np.array([trial.score for trial in trials.values()], dtype=np.float64)
    bits = np.frombuffer(b"".join(trials), dtype=np.uint8).reshape(len(trials), -1, 2)
    return fit_surrogate(case.choice, bits, scores)


def plateaus(choice: Choices, bits: IntArray) -> Iterator[Plateau]:
    """Find layers where more bits cost nothing, or fewer bits save nothing.

    Args:
        choice: Allowed bits and their costs.
        bits: The policy, [decision, 2].

    Yields:
        These layers, in the order of the decisions.
    """
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
    """List the changes of one layer's bits that keep the policy within all limits, except possibly the objective's.

    Args:
        choice: Allowed bits and their costs.
        bits: The policy, [decision, 2].
        losses: Loss of every pair of bits, [decision, w_bits, a_bits].

    Yields:
        Each change, with its cost and the gain that `losses` predict.
    """
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


def end_costs(case: SearchCase) -> Iterator[EndCost]:
    """Find what the bits of the first layer and of the last layer of each head cost.

    These are pinned by default, since errors at the ends of a network are not averaged out.

    Args:
        case: Finished search.

    Yields:
        The layers whose bits are integers, in the order of execution.
    """
    priced, config = case.priced, case.config
    table = priced.table.of(config.objective)
    ends = end_layers(priced.layers, priced.heads)
    total = float(case.choice.total(case.winner)[0])
    fewest = width_index(config.min_bits)
    for layer, w_bits, a_bits, costs in zip(priced.layers, case.policy.w_bits, case.policy.a_bits, table, strict=True):
        if layer.name in ends and w_bits is not None and a_bits is not None:
            cost = float(costs[width_index(w_bits), width_index(a_bits)])
            yield EndCost(layer.name, (w_bits, a_bits), cost, cost / total, float(costs[fewest, fewest]))


def _belief(surrogate: Surrogate, winner: IntArray, measured: float, *, unit: str, scale: float) -> Belief:
    predicted = surrogate.predict(winner)
    return Belief(unit, surrogate.policies, scale * measured, *(scale * each for each in predicted))


def _exchange(case: SearchCase, winner: Trial) -> Exchange | None:
    """Fit points of search accuracy to output error by least squares, through the origin (the float network)."""
    fp32 = case.policy.accuracy.get("fp32_search")
    if fp32 is None or case.unit[0] == "points" or not metric_of(case.summary.metric).is_percent:
        return None
    near = [trial for trial in case.trials.values() if trial.noise <= NEAR * winner.noise]
    noise = np.array([trial.noise for trial in near], dtype=np.float64)
    accuracy = np.array([trial.accuracy for trial in near], dtype=np.float64)
    lost = 100 * (fp32 - accuracy)
    points = float(lost @ noise / (noise @ noise)) if noise.any() else 0.0
    return Exchange(points, len(near)) if points > 0 and len(near) >= MIN_POLICIES else None


def _distance(surrogate: Surrogate, winner: IntArray, scale: float) -> Distance:
    choice, losses = surrogate.choice, surrogate.losses
    loss, best = loss_of(losses, winner), least_loss(choice, losses)
    draws = regrets(choice, winner, list(surrogate.draw_losses(np.random.default_rng(0), DRAWS)))
    likely = float(regrets(choice, winner, [losses])[0])
    bound, low, high = (scale * loss * float(share) for share in (likely, *np.quantile(draws, (LOW, HIGH))))
    integer = max(loss - loss_of(losses, best), 0.0)
    differs = (best != winner).any(axis=1)
    names = tuple(name for name, is_other in zip(choice.names, differs, strict=True) if is_other)
    return Distance(bound, low, high, scale * integer, names)


def _price(case: SearchCase, losses: FloatArray) -> Price:
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


def _noise(case: SearchCase) -> Iterator[CostNoise]:
    at = [
        (layer, width_index(w_bits), width_index(a_bits))
        for layer, (w_bits, a_bits) in enumerate(zip(case.policy.w_bits, case.policy.a_bits, strict=True))
    ]
    for budget in case.summary.budget:
        if budget.objective in NOISY:
            table = case.priced.table.of(budget.objective)
            yield cost_noise(budget.objective, np.array([table[place] for place in at]), budget.value)


def _notes(case: SearchCase) -> Iterator[str]:
    """Yield remarks that qualify these numbers."""
    now, then = float(case.choice.total(case.winner)[0]), case.policy.cost.value(case.config.objective)
    if then is not None and abs(now - then) > 1e-6 * then:
        yield f"the device has changed since the run: the policy cost {then:.4g} then and costs {now:.4g} now"
    yield from case.priced.table.notes
