"""Tables of the results of workflows, for the screen and for notebooks."""

from pathlib import Path

from haq.formatting import format_cost, percent
from haq.notebook import notebook_html
from haq.policy import CostSummary, Policy
from haq.runs.summary import LearnedSummary, Summary
from haq.tables import Block, Table
from haq.tasks.metrics import metric_of


def result_html(title: str, table: Table, policy: Policy, path: Path | None) -> str:
    """Format the result of a workflow for a notebook.

    Args:
        title: Kind of the result.
        table: Scores of the networks.
        policy: Bits of all layers.
        path: Folder of the run; None if it was not kept.

    Returns:
        The HTML; every text is escaped.
    """
    blocks: list[Block] = [table] if path is None else [table, f"files in {path}"]
    return notebook_html(title, blocks) + policy._repr_html_()


def search_table(summary: Summary) -> Table:
    """Return the report scores of the float network, the policy and the best uniform bits within the budget.

    Args:
        summary: Summary of a search.

    Returns:
        A row for each network, with the cost that the search limits.
    """
    metric, objective, best = metric_of(summary.metric), summary.objective, summary.best_uniform
    rows = [("float", "-", "-", metric.text(summary.accuracy_fp32, digits=2))]
    networks: list[tuple[str, CostSummary, float, float]] = [
        ("policy found", summary.cost, summary.cost_ratio, summary.accuracy)
    ]
    if best is not None and summary.max_accuracy_drop is None:
        networks.append((f"best uniform bits, {best.w_bits}/{best.a_bits}", best.cost, best.cost_ratio, best.accuracy))
    for name, cost, ratio, accuracy in networks:
        value = format_cost(objective, cost.value(objective))
        rows.append((name, value, percent(ratio), metric.text(accuracy, digits=2)))
    return Table(("network", objective, "of 8 bits", f"report {metric.name}"), tuple(rows))


def learned_table(summary: LearnedSummary, learned: str) -> Table:
    """Return the scores of the float network, and of the quantized one before and after learning.

    Args:
        summary: Summary of a fine-tuning or reconstruction.
        learned: Name of the network after learning.

    Returns:
        A row for each network, with the scores on the search split and the report split.
    """
    metric = metric_of(summary.metric)
    float_network, start, found = (
        [metric.text(score, digits=2) for score in scores]
        for scores in (
            (summary.search_accuracy_fp32, summary.accuracy_fp32),
            (summary.search_accuracy_start,),
            (summary.search_accuracy, summary.accuracy),
        )
    )
    rows = (("float", *float_network), ("quantized, before learning", *start, "-"), (learned, *found))
    counts = {"search": summary.search_images, "report": summary.report_images}
    return Table(("network", *(f"{count} {split} {metric.items}" for split, count in counts.items())), rows)
