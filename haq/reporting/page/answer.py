"""Answer of a run: cost against budget and 8 bits, score against float and uniform bits, and what to do next."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

from haq.finetuning.journal import Summary as FinetuneSummary
from haq.formatting import format_cost, percent
from haq.reconstruction.records import Summary as ReconstructionSummary
from haq.reporting.page.commands import RUN
from haq.reporting.page.runs import AnySummary, ReportedRun
from haq.runs.summary import Interval, Summary, UniformResult
from haq.tables import Table
from haq.tasks.metrics import ACCURACY
from hardware_sim.cost import OBJECTIVES

NOTABLE_LOSS = 0.005
"""Loss of a score, as a fraction, from which the next step is to recover it."""
UNUSED = 0.05
"""Unused fraction of a budget that is worth a remark."""


@dataclass(frozen=True, slots=True)
class Tile:
    """Number of the answer.

    Attributes:
        label: What the number is.
        value: The number.
        details: What it compares with, one line each.
    """

    label: str
    value: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """Advice on what to do next.

    Attributes:
        text: The advice.
        command: Command that follows it; empty for none.
    """

    text: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a run.

    Attributes:
        verdict: The result in one or two sentences.
        tiles: The main numbers.
        networks: Costs and scores of the policy and of what it is compared with.
        costs: All costs of the policy and of 8 bits.
        steps: What to do next.
        warnings: Limits on how far the numbers can be trusted.
    """

    verdict: str
    tiles: tuple[Tile, ...]
    networks: Table | None
    costs: Table
    steps: tuple[Step, ...]
    warnings: tuple[str, ...]


def answer(run: ReportedRun) -> Answer:
    """Summarize a run.

    Args:
        run: The run.

    Returns:
        The answer.
    """
    search = run.search
    return Answer(
        verdict=_verdict(run),
        tiles=tuple(_tiles(run)),
        networks=None if search is None else _networks(run, search),
        costs=_costs(run.summary),
        steps=tuple(_steps(run)),
        warnings=tuple(getattr(run.summary, "warnings", ())),
    )


def _tiles(run: ReportedRun) -> Iterator[Tile]:
    summary, metric, objective = run.summary, run.metric, run.objective
    cost, baseline = summary.cost.value(objective), summary.baseline_cost.value(objective)
    if cost is not None:
        details = [f"{percent(cost / baseline)} of 8 bits"] if baseline else []
        for budget in run.search.budget if run.search and run.search.max_accuracy_drop is None else ():
            value = summary.cost.value(budget.objective)
            if value is not None:
                limit = format_cost(budget.objective, budget.value)
                details.append(f"{percent(value / budget.value)} of the {budget.objective} budget, {limit}")
        yield Tile(objective, format_cost(objective, cost), tuple(details))
    change = _change(run, summary.accuracy - summary.accuracy_fp32)
    details = [f"float: {metric.text(summary.accuracy_fp32, digits=2)}, {change}"]
    if run.search is not None and run.search.interval is not None:
        details.append(f"95 % interval: {_interval(run.search.interval)}")
    details.append(f"{summary.report_images} report {metric.items}")
    yield Tile(metric.name, metric.text(summary.accuracy, digits=2), tuple(details))
    uniform = None if run.search is None else run.search.best_uniform
    if uniform is not None:
        gain = _change(run, summary.accuracy - uniform.accuracy)
        details = [f"{metric.name} of the best uniform bits within the budget", f"the policy: {gain}"]
        details.insert(1, f"{percent(uniform.cost_ratio)} of the {objective} of 8 bits")
        name = f"uniform {uniform.w_bits}/{uniform.a_bits} bits"
        yield Tile(name, metric.text(uniform.accuracy, digits=2), tuple(details))
    size, float_size = summary.cost.weight_bytes, summary.baseline_cost.weight_bytes
    if objective != "size" and size is not None and float_size:
        ratio = percent(size / float_size)
        yield Tile(
            "weights", format_cost("size", size), (f"{ratio} of 8 bits", f"{percent(size / float_size / 4)} of float")
        )


def _verdict(run: ReportedRun) -> str:
    summary, metric = run.summary, run.metric
    lost = _change(run, summary.accuracy - summary.accuracy_fp32)
    if isinstance(summary, FinetuneSummary | ReconstructionSummary):
        start = _change(run, summary.search_accuracy - summary.search_accuracy_start)
        learned = "Fine-tuning" if isinstance(summary, FinetuneSummary) else "Reconstruction"
        return (
            f"{learned}: {start} of {metric.name} on the search split. On the report split the policy has {lost} "
            "against float."
        )
    cost = percent(summary.cost_ratio)
    text = f"The policy takes {cost} of the {run.objective} of 8 bits. Its {metric.name}: {lost} against float"
    uniform = summary.best_uniform
    if uniform is None:
        return f"{text}; no uniform bits are within the budget."
    gain = _change(run, summary.accuracy - uniform.accuracy)
    doubt = ""
    if metric.name == ACCURACY.name and _is_noise(summary, uniform):
        doubt = f" Both differences are within the uncertainty of {summary.report_images} report {metric.items}."
    return f"{text}, {gain} against uniform {uniform.w_bits}/{uniform.a_bits} bits, the best within the budget.{doubt}"


def _change(run: ReportedRun, difference: float) -> str:
    """Format a difference of scores."""
    return run.metric.change_text(difference) if difference else "no change"


def _is_noise(search: Summary, uniform: UniformResult) -> bool:
    """Return whether both differences of accuracies are below two standard errors of a difference.

    The errors are those of independent samples, which is more than those of scores on the same images.
    """

    def is_close(other: float) -> bool:
        variance = sum(each * (1 - each) for each in (search.accuracy, other)) / max(search.report_images, 1)
        return abs(search.accuracy - other) < 2 * sqrt(max(variance, 0.0))

    return is_close(search.accuracy_fp32) and is_close(uniform.accuracy)


def _networks(run: ReportedRun, search: Summary) -> Table:
    objective, metric = run.objective, run.metric
    rows = [("float", "", "", metric.text(search.accuracy_fp32, digits=2), _interval(search.interval_fp32), "")]
    named: dict[str, UniformResult | Summary] = {
        **{f"uniform {each.w_bits}/{each.a_bits}": each for each in search.uniform},
        "policy found": search,
    }
    for name, each in named.items():
        score, error = metric.text(each.accuracy, digits=2), "" if each.noise is None else f"{each.noise:.2g}"
        cost = format_cost(objective, each.cost.value(objective))
        rows.append((name, cost, percent(each.cost_ratio), score, _interval(each.interval), error))
    return _without_empty_columns(
        Table(("weights/input bits", objective, "of 8 bits", metric.name, "95 % interval", "output error"), tuple(rows))
    )


def _without_empty_columns(table: Table) -> Table:
    return table.select_columns([place for place in range(len(table.columns)) if any(row[place] for row in table.rows)])


def _interval(interval: Interval | None) -> str:
    return "" if interval is None else f"{100 * interval.low:.1f} to {100 * interval.high:.1f} %"


def _costs(summary: AnySummary) -> Table:
    rows = []
    for objective in OBJECTIVES:
        cost, baseline = summary.cost.value(objective), summary.baseline_cost.value(objective)
        if cost is not None and baseline:
            costs = (format_cost(objective, cost), format_cost(objective, baseline))
            name = "bit operations" if objective == "bops" else objective
            rows.append((name, *costs, percent(cost / baseline)))
    return Table(("cost", "policy", "8 bits everywhere", "of 8 bits"), tuple(rows))


def _steps(run: ReportedRun) -> Iterator[Step]:
    """Yield what to do next, the most important first."""
    summary, metric, search = run.summary, run.metric, run.search
    lost = summary.accuracy_fp32 - summary.accuracy
    if not metric.is_percent:
        lost /= abs(summary.accuracy_fp32) or 1.0
    uniform = None if search is None else search.best_uniform
    if search is not None and uniform is not None and uniform.accuracy >= search.accuracy:
        better = "as good as" if uniform.accuracy == search.accuracy else "better than"
        yield Step(
            f"Uniform {uniform.w_bits}/{uniform.a_bits} bits are {better} the policy on the report split: use them, or "
            "search with a tighter budget, where mixed bits gain more."
        )
    if search is not None and search.max_accuracy_drop is None:
        used = search.cost_ratio / search.budget[0].ratio
        if used < 1 - UNUSED:
            yield Step(f"{percent(1 - used)} of the budget is not used: a tighter budget may cost no accuracy.")
    is_linear = run.config.quantizer == "linear"
    if lost >= NOTABLE_LOSS and run.workflow != "finetune":
        if run.workflow == "search" and is_linear and not run.config.episode_finetune_steps:
            yield Step("Recover some of the loss without labels, in minutes.", f"haq reconstruct {RUN}")
        yield Step("Recover more of it by training, if there are labelled images.", f"haq finetune {RUN}")
    if is_linear and run.exports == ():
        yield Step("Export the policy to a runtime; the files are compared with this network.", f"haq export {RUN}")
    if is_linear and run.verification is None:
        yield Step("Verify codes and predictions in the runtimes of this machine.", f"haq verify {RUN}")
