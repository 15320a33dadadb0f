"""Result of a search on standard output: accuracies and costs beside the budgets."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from haq.cli.output import print_table, print_text
from haq.pretty import percent, pretty_cost
from haq.searching.running import SearchResult
from hardware_sim.cost import OBJECTIVES


def print_result(result: SearchResult, path: Path) -> None:
    """The policy next to the float network and uniform bits, on the report split."""
    summary = result.summary
    objective = summary["objective"]
    key = ("latency_s", "energy_j", "weight_bytes", "bops")[OBJECTIVES.index(objective)]
    rows = [("float", "-", "-", percent(summary["accuracy_fp32"], digits=2))]
    for each in summary["uniform"]:
        name = f"uniform {each['w_bits']}/{each['a_bits']}"
        rows.append(
            (
                name,
                pretty_cost(objective, each["cost"][key]),
                percent(each["cost_ratio"]),
                percent(each["accuracy"], digits=2),
            )
        )
    rows.append(
        (
            "policy found",
            pretty_cost(objective, summary["cost"][key]),
            percent(summary["cost_ratio"]),
            percent(summary["accuracy"], digits=2),
        )
    )
    title = f"{summary['report_images']} report images, budget {percent(summary['budget'][0]['ratio'])} of 8 bits"
    print_table(title, ("weights/activations", objective, "of 8 bits", summary["metric"]["name"]), rows)
    if "max_accuracy_drop" in summary:
        print_text(_drop_line(summary["max_accuracy_drop"], summary))
    for note in summary.get("notes", ()):
        print_text(f"note: {note}")
    print_text(f"{summary['episodes']} episodes, {summary['evaluations']} evaluations, {summary['seconds']:.0f} s")
    print_text(f"files in {path}")


def _drop_line(drop: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """What may be said of the accuracy that was lost."""
    limit = f"{100 * drop['limit']:g} points"
    found = (
        f"{100 * drop['search']:.2f} points lost on {summary['search_images']} search images, at most {limit} allowed"
    )
    sure = [
        f"{percent(confidence)} by {summary[f'{split}_images']} {split} images"
        for split, confidence in drop["confidence"].items()
    ]
    return found + (f"; confidence that it is no more than {limit}: {', '.join(sure)}" if sure else "")
