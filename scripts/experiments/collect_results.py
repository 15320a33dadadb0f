"""Update the table of runs in `results/README.md` from the run folders beside it.

python scripts/experiments/collect_results.py
"""

import argparse
from pathlib import Path
from typing import Any

from haq.files import write_atomically
from haq.formatting import format_cost, percent
from haq.runs.run_folder import CONFIG, ENVIRONMENT, RunFolder
from haq.searching.search import finished
from hardware_sim.cost import COST_FIELDS

HEADER = "| run | device | objective | budget | cost of the policy | of 8 bits | policy | best uniform | float |"


def row(run: RunFolder) -> str:
    """Return the line of one run."""
    summary: dict[str, Any] = finished(run).summary.model_dump(mode="json")
    config = run.read_json(CONFIG) or {}
    objective = summary["objective"]
    best = max(summary["uniform"], key=lambda each: each["accuracy"], default=None)
    uniform = "-" if best is None else f"{percent(best['accuracy'], digits=2)} ({best['w_bits']}/{best['a_bits']})"
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


def with_table(text: str, rows: list[str]) -> str:
    """Return a Markdown page with the rows of the table under `HEADER` replaced.

    >>> page = "before\\n" + HEADER + "\\n|---|\\n| old |\\nafter\\n"
    >>> with_table(page, ["| new |"]).splitlines()[2:]
    ['|---|', '| new |', 'after']
    """
    lines = text.splitlines()
    first = lines.index(HEADER) + 2
    last = next((place for place in range(first, len(lines)) if not lines[place].startswith("|")), len(lines))
    return "\n".join([*lines[:first], *rows, *lines[last:]]) + "\n"


def main() -> None:
    """Replace the table in the README of a folder of runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("results"), help="default: results")
    folder = parser.parse_args().folder
    rows = [row(RunFolder(path.parent)) for path in sorted(folder.glob(f"*/{ENVIRONMENT}"))]
    page = folder / "README.md"
    write_atomically(page, with_table(page.read_text(encoding="utf-8"), rows).encode())


if __name__ == "__main__":
    main()
