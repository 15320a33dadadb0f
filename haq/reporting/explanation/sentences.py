"""Sentences that explain the policy of a search."""

from collections.abc import Iterator
from dataclasses import dataclass

from haq.formatting import counted, format_cost, percent
from haq.reporting.explanation.findings import Distance, EndCost, Exchange, Explanation, Plateau, Price, Step
from haq.reporting.explanation.robustness import CostNoise, Recalibrated
from haq.tasks.metrics import Metric
from hardware_sim.cost import Objective


@dataclass(frozen=True, slots=True)
class Unit:
    """Format of differences: in points of accuracy, or as a reward with the points that it corresponds to.

    Attributes:
        name: `points` or `reward`.
        exchange: Conversion of rewards to points; None if there is none.
    """

    name: str
    exchange: Exchange | None = None

    def number(self, value: float) -> str:
        """Format a value with its sign; a value that rounds to zero has a plus.

        Args:
            value: Value in this unit.

        Returns:
            The number without its unit.

        Examples:
            >>> Unit("points").number(-0.001), Unit("points").number(-0.01), Unit("reward").number(-0.00123456)
            ('+0.00', '-0.01', '-0.00123')
        """
        return f"{round(value, 2) + 0.0:+.2f}" if self.name == "points" else f"{value:+.3g}"

    def signed(self, value: float) -> str:
        """Format a gain or a loss with its unit.

        Args:
            value: Value in this unit, positive for a gain.

        Returns:
            The number with its sign and unit, and the points that it corresponds to.

        Examples:
            >>> Unit("reward", Exchange(points=50.0, policies=20)).signed(0.005)
            '+0.005 reward (+0.25 points)'
        """
        return f"{self.number(value)} {self.name}{self._points(value, '+')}"

    def amount(self, value: float) -> str:
        """Format a value with its unit and without a plus.

        Args:
            value: Value in this unit.

        Returns:
            The number with its unit, and the points that it corresponds to.
        """
        plain = f"{value:.2f}" if self.name == "points" else f"{value:.3g}"
        return f"{plain} {self.name}{self._points(value, '')}"

    def _points(self, value: float, sign: str) -> str:
        if self.exchange is None:
            return ""
        return f" ({round(self.exchange.points * value, 2) + 0.0:{sign}.2f} points)"


def sentences(found: Explanation) -> Iterator[str]:
    """Describe the findings on a run.

    Args:
        found: Findings of `haq explain`.

    Yields:
        One line for each finding.
    """
    belief, unit = found.belief, Unit(found.belief.unit, found.exchange)
    yield f"{found.model} on {found.hardware}: {_cost_line(found.price)}"
    yield (
        f"The reward model, from {belief.policies} policies, predicts about "
        f"{unit.number(belief.predicted)} {unit.name} ({unit.number(belief.low)} to {unit.number(belief.high)}); "
        f"measured {unit.number(belief.measured)}. 0 is the float network on the search images."
    )
    if found.exchange:
        yield (
            f"In {found.exchange.policies} policies near this one a reward of -0.01 went with "
            f"{-0.01 * found.exchange.points:+.2f} points of search {found.metric.name}; points below are converted "
            "at this rate."
        )
    yield _distance_line(found.distance, unit)
    yield from _price_lines(found.price, unit)
    yield _free_line(found.free)
    yield from (_end_line(each, found.price.objective) for each in found.ends)
    yield from (_noise_line(each) for each in found.cost_noise)
    if not found.cost_noise:
        yield "The budgets limit bytes or operations, which are exact on every device."
    if found.calibration:
        yield _calibration_line(found.calibration, found.metric)


def _cost_line(price: Price) -> str:
    used, budget = format_cost(price.objective, price.cost), format_cost(price.objective, price.budget)
    return f"{price.objective} {used} of a budget of {budget} ({percent(price.cost / price.budget)} used)."


def _distance_line(distance: Distance, unit: Unit) -> str:
    bound, low, high, whole = map(unit.amount, (distance.bound, distance.low, distance.high, distance.integer))
    text = (
        f"Within the budget it predicts a gain of at most {bound}; models drawn from its uncertainty, each with "
        f"its own best policy, predict {low} to {high} (eight in ten)."
    )
    if not distance.differs:
        return f"{text} Its best policy with whole bits is this one."
    names = ", ".join(distance.differs[:3]) + (f" and {len(distance.differs) - 3} more" * (len(distance.differs) > 3))
    return f"{text} Its best policy with whole bits gains about {whole}, with other bits in {names}."


def _price_lines(price: Price, unit: Unit) -> Iterator[str]:
    one = format_cost(price.objective, 0.01 * price.budget)
    yield f"One percent more budget ({one}) is worth about {unit.amount(price.percent)}."
    if price.upgrade is None:
        yield "The model predicts no gain from more bits in any layer."
    else:
        step = price.upgrade
        within = ", within the budget as it is" if step.fits else ""
        yield (
            f"{format_cost(price.objective, step.cost)} more {price.objective} allows {_change(step)}, "
            f"about {unit.signed(step.gain)}{within}: the largest gain for its cost."
        )
    if price.saving is not None:
        step = price.saving
        yield (
            f"{format_cost(price.objective, -step.cost)} of {price.objective} can be saved with {_change(step)}, "
            f"about {unit.signed(step.gain)}: the smallest loss for its cost."
        )


def _change(step: Step) -> str:
    """Describe the layer and the bits that change.

    >>> _change(Step("conv2", (4, 5), (8, 8), 1e-6, 0.3, fits=False))
    'conv2 weights of 5 bits instead of 4'
    """
    parts = (("weights", step.w_bits), ("activations", step.a_bits))
    changed = [f"{part} of {after} bits instead of {before}" for part, (before, after) in parts if before != after]
    return f"{step.layer} {' and '.join(changed)}"


def _free_line(free: tuple[Plateau, ...]) -> str:
    more = sum(each.most != each.bits for each in free)
    fewer = sum(each.least != each.bits for each in free)
    if not free:
        return "No bits are free on this device: every bit has a cost."
    more_text = f"in {counted(more, 'layer')} more bits cost nothing"
    return f"Bits are free on this device: {more_text}, in {fewer} fewer bits save nothing."


def _end_line(end: EndCost, objective: Objective) -> str:
    w_bits, a_bits = end.bits
    return (
        f"{end.layer}, at an end of the network, takes {percent(end.share)} of the {objective} at {w_bits}/{a_bits} "
        f"bits; the fewest bits would save {format_cost(objective, end.cost - end.least)} there."
    )


def _noise_line(noise: CostNoise) -> str:
    spread = percent(noise.spread, digits=0)
    return (
        f"If the modelled {noise.objective} is off by up to {spread}: under budget in {percent(noise.apart)} of "
        f"{noise.draws} draws with independent errors of the layers, in {percent(noise.together)} with one common "
        f"error; the budget holds up to {noise.headroom:.3f} times the modelled {noise.objective}."
    )


def _calibration_line(found: Recalibrated, metric: Metric) -> str:
    verdict = "still within" if found.is_close else "not within"
    shared = f", {found.shared} of them the same" if found.shared else ""
    return (
        f"Calibrated on {found.images} items from the other end of the training part{shared}: search {metric.name} "
        f"{metric.text(found.search_accuracy, digits=2)}, was {metric.text(found.search_accuracy_before, digits=2)}, "
        f"{verdict} {'half a point' if metric.is_percent else '0.5 %'}."
    )
