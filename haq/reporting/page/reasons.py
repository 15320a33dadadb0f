"""Why a layer has its bits: one sentence made from costs, limits and expected errors of the run."""

from dataclasses import dataclass

SENSITIVE, TOLERANT = 2.0, 0.5
"""Expected error of a layer over that of the median layer from which it counts as sensitive, and below as tolerant."""
DEAR, CHEAP = 2.0, 0.5
"""The same for the cost of a layer."""


@dataclass(frozen=True, slots=True)
class OneBitLess:
    """Effect of taking one bit from a layer.

    Attributes:
        part: What loses the bit: `weight` or `input`.
        saved: Cost that is saved, over the cost of the policy.
        added: Expected error that is added, over that of the policy; None if it is not known.
    """

    part: str
    saved: float
    added: float | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known about the bits of one layer.

    Attributes:
        w_bits: Bits of the weights; None for float.
        a_bits: Bits of the input; None for float.
        pinned: Why the bits could not be chosen; None if they could.
        level: Whether the layer has more (1), as many (0) or fewer bits (-1) than the median layer.
        objective: Cost that is limited.
        share: Share of the layer in the cost of the policy; None if it is not known.
        cost: Cost at 8 bits over that of the median layer; None if it is not known.
        bound: What limits the latency of the layer, `memory` or `compute`; None if it is not known.
        sensitivity: Expected error at 4 bits over that of the median layer; None if it is not known.
        free: Most bits of weights and input that cost no more; None if more bits cost more.
        idle: Fewest bits of weights and input that cost no less; None if fewer bits save something.
        less: Effects of taking one bit.
    """

    w_bits: int | None
    a_bits: int | None
    objective: str
    pinned: str | None = None
    level: int = 0
    share: float | None = None
    cost: float | None = None
    bound: str | None = None
    sensitivity: float | None = None
    free: tuple[int, int] | None = None
    idle: tuple[int, int] | None = None
    less: tuple[OneBitLess, ...] = ()

    @property
    def is_sensitive(self) -> bool:
        """Whether few bits cause a large error."""
        return self.sensitivity is not None and self.sensitivity >= SENSITIVE

    @property
    def is_tolerant(self) -> bool:
        """Whether few bits cause a small error."""
        return self.sensitivity is not None and self.sensitivity <= TOLERANT


def tags(facts: Facts) -> tuple[str, ...]:
    """Return the properties of a layer that explain its bits, in one or two words each.

    Args:
        facts: What is known about the layer.

    Returns:
        The words.

    Examples:
        >>> tags(Facts(8, 8, "latency", pinned="pinned by --pin fc=8", bound="memory"))
        ('pinned', 'memory-bound')
    """
    found = {
        "pinned": facts.pinned is not None,
        "sensitive": facts.is_sensitive,
        "tolerant": facts.is_tolerant,
        "free bits": facts.free is not None and facts.pinned is None,
        f"{facts.bound}-bound": facts.bound is not None,
    }
    return tuple(name for name, holds in found.items() if holds)


def why(facts: Facts) -> str:
    """Explain the bits of a layer in one sentence.

    Args:
        facts: What is known about the layer.

    Returns:
        The sentence; empty if nothing is known.

    Examples:
        >>> less = OneBitLess("weight", 0.004, 0.021)
        >>> print(why(Facts(7, 6, "latency", level=1, sensitivity=3.1, share=0.02, bound="memory", less=(less,))))
        ... # doctest: +NORMALIZE_WHITESPACE
        More bits than most layers because it is sensitive (3.1 times the error of the median layer at 4 bits): 2.0 % of
        the latency, bound by memory; one weight bit less would save 0.4 % of the latency and add 2.1 % to the expected
        error.
    """
    if facts.pinned is not None:
        return f"{facts.pinned}{_ending(facts.share, facts)}."
    lead = _lead(facts)
    details = ", ".join([*_cost_details(facts), *_free_details(facts)])
    text = ": ".join(part for part in (lead, details) if part)
    most = max(facts.less, key=lambda less: less.saved, default=None)
    effect = "" if most is None else _effect(most, facts.objective)
    sentence = "; ".join(part for part in (text, effect) if part)
    return f"{sentence[:1].upper()}{sentence[1:]}." if sentence else ""


def _lead(facts: Facts) -> str:
    """Compare the bits with those of other layers, with the causes that speak for it and against it."""
    if facts.sensitivity is None and facts.cost is None:
        return ""
    level = {1: "more bits than most layers", 0: "about as many bits as most layers", -1: "fewer bits than most layers"}
    causes: list[tuple[int, str]] = []
    if facts.sensitivity is not None and (facts.is_sensitive or facts.is_tolerant):
        times = f"{facts.sensitivity:.2g} times the error of the median layer at 4 bits"
        causes.append((1, f"it is sensitive ({times})") if facts.is_sensitive else (-1, f"it is tolerant ({times})"))
    if facts.cost is not None and (facts.cost >= DEAR or facts.cost <= CHEAP):
        times = f"{facts.cost:.2g} times the {facts.objective} of the median layer"
        causes.append((-1, f"it is expensive ({times})") if facts.cost >= DEAR else (1, f"it is cheap ({times})"))
    if facts.free is not None:
        causes.append((1, "bits are free here"))
    text = level[facts.level]
    if facts.level == 0:
        return text + (f"; {' and '.join(cause for _, cause in causes)}" if causes else "")
    supporting = [cause for sign, cause in causes if sign == facts.level]
    opposing = [cause for sign, cause in causes if sign != facts.level]
    text += f" because {' and '.join(supporting)}" if supporting else ""
    return text + (f", although {' and '.join(opposing)}" if opposing else "")


def _cost_details(facts: Facts) -> list[str]:
    details = [] if facts.share is None else [f"{100 * facts.share:.1f} % of the {facts.objective}"]
    return details + ([] if facts.bound is None else [f"bound by {facts.bound}"])


def _free_details(facts: Facts) -> list[str]:
    details = [] if facts.free is None else [f"up to {facts.free[0]}/{facts.free[1]} bits cost no more"]
    return details + ([] if facts.idle is None else [f"down to {facts.idle[0]}/{facts.idle[1]} bits cost no less"])


def _effect(less: OneBitLess, objective: str) -> str:
    saved = f"save {100 * less.saved:.2g} % of the {objective}" if less.saved > 0 else "save nothing"
    added = "" if less.added is None else f" and add {100 * less.added:.2g} % to the expected error"
    return f"one {less.part} bit less would {saved}{added}"


def _ending(share: float | None, facts: Facts) -> str:
    return "" if share is None else f"; {', '.join(_cost_details(facts))}"
