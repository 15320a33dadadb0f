"""Figure of the policy of a run: its bits and scores, beside those of the best uniform bits within the budget."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from pydantic import Field

from envs.choices import Budget
from haq.budgets import ResolvedBudget
from haq.config import SearchConfig
from haq.costs.deployment import end_layers
from haq.experiment.stored_layers import load_layers
from haq.policy import Policy, load_policy
from haq.reporting.plots.policy import UniformBits, plot_policy
from haq.runs.records import Metric as MetricRecord
from haq.runs.records import Positive, Record, checked
from haq.runs.run_folder import CONFIG, POLICY, SUMMARY, RunFolder
from haq.runs.summary import BudgetLimit, Summary
from haq.tasks.metrics import ACCURACY, metric_of
from hardware_sim.cost import Objective


class _Budget(Record):
    objective: Objective
    value: Positive
    ratio: Positive


class _Metric(MetricRecord):
    name: str = ACCURACY.name


class _AnySummary(Record):
    """Fields of the summary of any run that the figure uses; commands that do not search write no budget."""

    metric: _Metric = _Metric()
    budget: tuple[_Budget, ...] = ()


class _Pins(Record):
    """Settings that fix the bits of layers."""

    first_last_bits: int | None = SearchConfig().first_last_bits
    pin: dict[str, int] = Field(default_factory=dict)


def draw_policy(run: RunFolder, title: str | None) -> Figure:
    """Draw the policy of a run, and after a search the best uniform bits of no greater cost.

    Args:
        run: Folder of the run.
        title: Title of the figure; None for its own.

    Returns:
        The figure.

    Raises:
        UserError: The folder lacks the policy, or a file is damaged.
    """
    policy, document = load_policy(run.path / POLICY), run.read_json(SUMMARY) or {}
    summary = checked(_AnySummary, document, run.path / SUMMARY)
    budgets, metric = resolved(summary.budget), metric_of(summary.metric)
    search = checked(Summary, document, run.path / SUMMARY) if "uniform" in document else None
    if search is None or search.max_accuracy_drop is not None or search.best_uniform is None:
        return plot_policy(policy, title=title, budgets=budgets, metric=metric)
    best = search.best_uniform
    uniform = UniformBits(best.w_bits, best.a_bits, _free_layers(run, policy))
    scores = report_scores(search)
    return plot_policy(policy, title=title, budgets=budgets, metric=metric, uniform=uniform, scores=scores)


def report_scores(search: Summary) -> dict[str, float]:
    """Return scores on the report split by name.

    Args:
        search: Results of a search.

    Returns:
        Scores of the float network, the policy, and the best uniform bits within the budget, if there are any.
    """
    scores = {"float": search.accuracy_fp32, "policy": search.accuracy}
    best = search.best_uniform
    return scores if best is None else {**scores, f"uniform {best.w_bits}/{best.a_bits}": best.accuracy}


def resolved(budgets: Sequence[_Budget | BudgetLimit]) -> list[ResolvedBudget]:
    """Convert the budgets of a summary.

    Args:
        budgets: Records of the budgets.

    Returns:
        The budgets as limits with their ratios.
    """
    return [ResolvedBudget(Budget(each.objective, each.value), each.ratio) for each in budgets]


def _free_layers(run: RunFolder, policy: Policy) -> frozenset[str]:
    """Return the names of the layers whose bits are neither pinned nor those of an end of the network.

    Runs of older versions store no layers; their first and last ones are taken for the ends.
    """
    pins, trace = checked(_Pins, run.read_json(CONFIG) or {}, run.path / CONFIG), load_layers(run)
    names = [layer.name for layer in policy.layers]
    ends = frozenset((names[0], names[-1])) if trace is None else end_layers(trace.layers, trace.heads)
    return frozenset(names) - pins.pin.keys() - (ends if pins.first_last_bits is not None else frozenset())
