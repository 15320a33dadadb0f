"""Metrics: range, direction of improvement, and format of their values.

Files and searches use *scores*, of which higher is better. The score of a metric of which lower is better, such as an
error, is its negated value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, Protocol, runtime_checkable

from haq.execution.structures import Structure
from haq.formatting import percent
from haq.runs.records import Metric as MetricRecord

MetricFormat = Literal["percent", "number"]
"""Format of values: fractions that are shown in percent, or plain numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Metric of a task: immutable description of its values.

    Attributes:
        name: Name, such as `accuracy`.
        low: Lowest possible value.
        high: Highest possible value.
        higher_is_better: Whether higher values are better.
        format: `percent` for fractions that are shown in percent, `number` for plain numbers.
        items: What it is computed over, in messages.
    """

    name: str
    low: float = -inf
    high: float = inf
    higher_is_better: bool = True
    format: MetricFormat = "number"
    items: str = "images"

    @property
    def is_percent(self) -> bool:
        """Whether values are shown in percent."""
        return self.format == "percent"

    def score(self, value: float) -> float:
        """Convert a value of the metric to a score, of which higher is better, or a score to a value.

        Args:
            value: Value of the metric, or a score.

        Returns:
            The score, or the value: the argument, negated if lower values are better.
        """
        return value if self.higher_is_better else -value

    def allows(self, score: float) -> bool:
        """Return whether a score lies in the range of the metric.

        Args:
            score: Score.

        Returns:
            True if its value lies in `low`..`high`; False for NaN.
        """
        return self.low <= self.score(score) <= self.high

    def text(self, score: float, *, digits: int = 1) -> str:
        """Format the value of a score for a report.

        Args:
            score: Score.
            digits: Number of decimals of a percentage.

        Returns:
            The value as text, in percent or with four significant digits.

        Examples:
            >>> ACCURACY.text(0.9725), Metric(name="rmse", low=0.0, higher_is_better=False).text(-0.25)
            ('97.2 %', '0.25')
        """
        value = self.score(score)
        return percent(value, digits=digits) if self.is_percent else f"{value:.4g}"

    def change_text(self, change: float) -> str:
        """Format the difference of two scores for a report.

        Args:
            change: Difference of two scores.

        Returns:
            The difference of the values with its sign as text; for percentages in points.

        Examples:
            >>> ACCURACY.change_text(-0.0125)
            '-1.25 points'
        """
        value = self.score(change)
        return f"{100 * value:+.2f} points" if self.is_percent else f"{value:+.4g}"

    def plotted(self, score: float) -> float:
        """Return the value of a score in the unit of a plot's axis.

        Args:
            score: Score.

        Returns:
            The value; in percent if values are fractions.
        """
        return 100 * self.score(score) if self.is_percent else self.score(score)

    def tick_text(self, score: float) -> str:
        """Format the value of a score as the label of an axis.

        Args:
            score: Score.

        Returns:
            The value as text with its unit.

        Examples:
            >>> ACCURACY.tick_text(0.925)
            '92.5 %'
        """
        return f"{self.plotted(score):.4g}{' %' if self.is_percent else ''}"

    def record(self, score: float) -> dict[str, Any]:
        """Return the record of a score for files; `metric_of` reads it.

        Args:
            score: Score.

        Returns:
            Name and value of the metric; also its direction and format if it is not built in or lower is better.

        Examples:
            >>> ACCURACY.record(0.5)
            {'name': 'accuracy', 'value': 0.5}
        """
        found: dict[str, Any] = {"name": self.name, "value": self.score(score)}
        if KNOWN.get(self.name) == self and self.higher_is_better:
            return found
        return {**found, "higher_is_better": self.higher_is_better, "format": self.format}


class Meter(Protocol):
    """Accumulator of a metric over batches; a new one is made for each evaluation."""

    def update(self, outputs: Structure, targets: Structure) -> None:
        """Add a batch.

        Args:
            outputs: Outputs of the network for n items, without gradient.
            targets: Targets of these items, on the same device.
        """
        ...

    def compute(self) -> float:
        """Return the value of the metric over all batches added so far; called after at least one."""
        ...


@runtime_checkable
class DetailedMeter(Meter, Protocol):
    """Meter that knows further values of the same batches, in the unit of the metric."""

    def details(self) -> Mapping[str, float]:
        """Return further values of the batches added so far, by name."""
        ...


ACCURACY = Metric(name="accuracy", low=0.0, high=1.0, format="percent")
AP = Metric(name="ap", low=0.0, high=1.0, format="percent")
"""Average precision of COCO: the mean over classes and over IoU thresholds of 0.50 to 0.95."""
PERPLEXITY = Metric(name="perplexity", low=1.0, higher_is_better=False, items="segments")
KNOWN: Mapping[str, Metric] = {metric.name: metric for metric in (ACCURACY, AP, PERPLEXITY)}
"""Built-in metrics by name."""


def metric_named(name: str) -> Metric:
    """Return a built-in metric, or a plain number of which higher is better for any other name.

    Args:
        name: Name of the metric.

    Returns:
        The metric.

    Examples:
        >>> metric_named("accuracy").text(0.5), metric_named("negative perplexity").text(-4.75312)
        ('50.0 %', '-4.753')
    """
    return KNOWN.get(name) or Metric(name=name)


def metric_of(record: MetricRecord) -> Metric:
    """Return the metric of a record that `Metric.record` made.

    Args:
        record: Record of a score.

    Returns:
        The metric.
    """
    return KNOWN.get(record.name) or Metric(
        name=record.name, higher_is_better=record.higher_is_better, format=record.format
    )


def metric_in(document: Mapping[str, Any]) -> Metric:
    """Return the metric of a document.

    Args:
        document: Document with the record of a score under the key `metric`.

    Returns:
        The metric.

    Raises:
        KeyError: The document has no such key.
        pydantic.ValidationError: The record is not valid.
    """
    return metric_of(MetricRecord.model_validate(document["metric"]))
