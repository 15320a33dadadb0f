"""Metrics: their range, which direction is better, and how they are shown.

Files and searches hold *scores*, of which higher is better. The score of a metric where lower is better, such as an
error, is its value negated.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, Protocol

from haq.execution.structures import Structure
from haq.formatting import percent
from haq.runs.records import Metric as MetricRecord

MetricFormat = Literal["percent", "number"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric of a task.

    Args:
        name: What it is called, such as `accuracy`.
        low: The least possible value.
        high: The greatest possible value.
        higher_is_better: The direction of improvement.
        format: Whether values are fractions that are shown in percent, or plain numbers.
    """

    name: str
    low: float = -inf
    high: float = inf
    higher_is_better: bool = True
    format: MetricFormat = "number"

    @property
    def is_percent(self) -> bool:
        """Whether values are shown in percent."""
        return self.format == "percent"

    def score(self, value: float) -> float:
        """Turn a value of the metric into a score, of which higher is better, or a score into a value."""
        return value if self.higher_is_better else -value

    def allows(self, score: float) -> bool:
        """Return whether a score lies in the metric's range."""
        return self.low <= self.score(score) <= self.high

    def text(self, score: float, *, digits: int = 1) -> str:
        """Show the metric's value for a score; `digits` are those of a percentage.

        >>> ACCURACY.text(0.9725), Metric(name="rmse", low=0.0, higher_is_better=False).text(-0.25)
        ('97.2 %', '0.25')
        """
        value = self.score(score)
        return percent(value, digits=digits) if self.is_percent else f"{value:.4g}"

    def change_text(self, change: float) -> str:
        """Show a change of scores; that of a percentage in points.

        >>> ACCURACY.change_text(-0.0125)
        '-1.25 points'
        """
        value = self.score(change)
        return f"{100 * value:+.2f} points" if self.is_percent else f"{value:+.4g}"

    def plotted(self, score: float) -> float:
        """Return the metric's value for a score as an axis has it, in percent where values are fractions."""
        return 100 * self.score(score) if self.is_percent else self.score(score)

    def tick_text(self, score: float) -> str:
        """Label a score on an axis of scores.

        >>> ACCURACY.tick_text(0.925)
        '92.5 %'
        """
        return f"{self.plotted(score):.4g}{' %' if self.is_percent else ''}"

    def record(self, score: float) -> dict[str, Any]:
        """Return what a file says of a score: name and value of the metric, and the rest where it is not built in.

        >>> ACCURACY.record(0.5)
        {'name': 'accuracy', 'value': 0.5}
        """
        found: dict[str, Any] = {"name": self.name, "value": self.score(score)}
        if KNOWN.get(self.name) == self:
            return found
        return {**found, "higher_is_better": self.higher_is_better, "format": self.format}


class Meter(Protocol):
    """Accumulates a metric batch by batch."""

    def update(self, outputs: Structure, targets: Structure) -> None:
        """Add a batch of outputs, with their targets on the same device."""
        ...

    def compute(self) -> float:
        """Return the metric's value over all batches so far."""
        ...


ACCURACY = Metric(name="accuracy", low=0.0, high=1.0, format="percent")
KNOWN: Mapping[str, Metric] = {ACCURACY.name: ACCURACY}
"""Built-in metrics by name."""


def metric_named(name: str) -> Metric:
    """Return a built-in metric; any other name is that of a plain number of which higher is better.

    >>> metric_named("accuracy").text(0.5), metric_named("negative perplexity").text(-4.75312)
    ('50.0 %', '-4.753')
    """
    return KNOWN.get(name) or Metric(name=name)


def metric_of(record: MetricRecord) -> Metric:
    """Return the metric that `Metric.record` described."""
    return KNOWN.get(record.name) or Metric(
        name=record.name, higher_is_better=record.higher_is_better, format=record.format
    )


def metric_in(document: Mapping[str, Any]) -> Metric:
    """Return the metric of a document, which has its record under `metric`."""
    return metric_of(MetricRecord.model_validate(document["metric"]))
