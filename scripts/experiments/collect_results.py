"""Update the tables of runs in `README.md` and `results/README.md` from the files in `results`.

python scripts/experiments/collect_results.py
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reconstruct_networks import HAQ_LOST
from search_networks import dearest_within

from haq.files import write_atomically
from haq.formatting import format_cost, percent
from haq.runs.run_folder import CONFIG, ENVIRONMENT, RunFolder
from haq.searching.search import finished
from hardware_sim.cost import COST_FIELDS

DIGITS_HEADER = "| run | device | objective | budget | cost of the policy | of 8 bits | policy | best uniform | float |"
README_HEADER = "| network, target | 3 bits | searched | 4 bits | searched | 5 bits | searched |"
RECONSTRUCTED_HEADER = "| uniform / searched → both reconstructed (HAQ) | 4 bits | 5 bits | 6 bits |"
MOBILENETS = {
    "mobilenet_v2": ("mobilenet_v2", "MobileNet-V2"),
    "mobilenet_v1": ("mobilenet_v1_075", "MobileNet-V1 0.75"),
}
"""Folder of the runs: name of the network in them, and in the table."""
TARGETS = ("bismo-edge", "bismo-cloud")
WIDTHS = (3, 4, 5)
LATENCIES = ("4bits", "5bits", "6bits")


def digits_rows(folder: Path) -> list[str]:
    """Return the rows of `results/README.md`: runs of the scripts that search the digits network."""
    runs = [RunFolder(path.parent) for path in sorted(folder.glob(f"*/{ENVIRONMENT}"))]
    return [_row(run) for run in runs if not run.path.name.startswith("quick_start")]


def _row(run: RunFolder) -> str:
    """Return the line of one run."""
    record = finished(run).summary
    summary: dict[str, Any] = record.model_dump(mode="json")
    config = run.read_json(CONFIG) or {}
    objective, best = summary["objective"], record.best_uniform
    uniform = "-" if best is None else f"{percent(best.accuracy, digits=2)} ({best.w_bits}/{best.a_bits})"
    cells = (
        f"[{run.path.name}]({run.path.name}/policy.png)",
        config["hardware"],
        objective,
        percent(summary["budget"][0]["ratio"]),
        format_cost(objective, summary["cost"][COST_FIELDS[objective]]),
        percent(summary["cost_ratio"]),
        percent(summary["accuracy"], digits=2),
        uniform,
        percent(summary["accuracy_fp32"], digits=2),
    )
    return "| " + " | ".join(cells) + " |"


def readme_rows(folder: Path) -> Iterator[str]:
    """Yield the rows of the first table in `README.md`: searched policies and uniform bits at the same cost."""
    rows = json.loads((folder / "networks" / "results.json").read_text(encoding="utf-8"))
    for target in TARGETS:
        pairs = {row["budget"]: _pair(row) for row in rows if row["target"] == target}
        cells = [cell for bits in WIDTHS for cell in pairs[f"{bits}bits"]]
        yield f"| ResNet-20, `{target}`, latency | {' | '.join(cells)} |"


def reconstructed_rows(folder: Path) -> Iterator[str]:
    """Yield the rows of the second table in `README.md`: points lost against float, beside those of HAQ's policies."""
    for name, (network, short) in MOBILENETS.items():
        rows = json.loads((folder / name / "reconstructed.json").read_text(encoding="utf-8"))
        for target in TARGETS:
            found = [row for row in rows if row["target"] == target and row["budget"] in LATENCIES]
            published = HAQ_LOST[network, target]
            cells = [f"{_losses(row)} ({published[row['budget']]:.1f})" for row in found]
            yield f"| {short}, `{target}` | {' | '.join(cells)} |"


def _losses(row: dict[str, Any]) -> str:
    """Return the points that uniform bits and the policy lose, as they are and reconstructed (best bold)."""
    uniform, searched = row["uniform_reconstructed"], row["searched_reconstructed"]
    accuracies = (row["uniform"], row["searched"], uniform["accuracy"], searched["accuracy"])
    lost = [f"{100 * (searched['accuracy_fp32'] - accuracy):.1f}" for accuracy in accuracies]
    least = min(lost[2:], key=float)
    after = (f"**{text}**" if text == least else text for text in lost[2:])
    return f"{lost[0]} / {lost[1]} → {' / '.join(after)}"


def _pair(row: dict[str, Any]) -> tuple[str, str]:
    """Return the accuracies of uniform bits and of the policy, with as many digits as images resolve, the best bold."""
    summary = row["summary"]
    uniform = dearest_within(summary["budget"][0]["value"], row["uniform"])["accuracy"]
    digits = 2 if summary["report_images"] > 1000 else 1
    texts = [f"{100 * accuracy:.{digits}f}" for accuracy in (uniform, summary["accuracy"])]
    best = max(texts, key=float)
    one, other = (f"**{text}**" if text == best and texts[0] != texts[1] else text for text in texts)
    return one, other


def with_table(text: str, header: str, rows: list[str]) -> str:
    """Return a Markdown page with the rows of the table under a header replaced.

    >>> page = "before\\n| a |\\n|---|\\n| old |\\nafter\\n"
    >>> with_table(page, "| a |", ["| new |"]).splitlines()[2:]
    ['|---|', '| new |', 'after']
    """
    lines = text.splitlines()
    first = lines.index(header) + 2
    last = next((place for place in range(first, len(lines)) if not lines[place].startswith("|")), len(lines))
    return "\n".join([*lines[:first], *rows, *lines[last:]]) + "\n"


def main() -> None:
    """Replace the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results"), help="default: results")
    folder = parser.parse_args().folder
    for page, header, rows in (
        (folder / "README.md", DIGITS_HEADER, digits_rows(folder)),
        (folder.parent / "README.md", README_HEADER, list(readme_rows(folder))),
        (folder.parent / "README.md", RECONSTRUCTED_HEADER, list(reconstructed_rows(folder))),
    ):
        write_atomically(page, with_table(page.read_text(encoding="utf-8"), header, rows).encode())


if __name__ == "__main__":
    main()
