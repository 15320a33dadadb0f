"""Write the page, the data and the plots of `results/methods` from the folders of finished `haq compare` runs.

    python scripts/experiments/collect_comparisons.py FOLDER ... --out results/methods

Besides the tables of each comparison, the page has averages over all budgets and targets of a network; they have
narrower intervals than a single budget and target. NETWORK.npz holds every evaluated policy: `bits` int8 [policy,
layer, 2], and `accuracy`, `divergence` and `noise` (relative output error) float32 [policy] on the search split drawn
by `split_seed` int32 [policy].
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from io import BytesIO
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from haq.files import write_atomically
from haq.reporting.plots import save_figure
from haq.reporting.plots.comparison import plot_comparison
from haq.runs.run_folder import CONFIG
from haq.studies.comparison.intervals import Interval, Verdict, paired_interval
from haq.studies.comparison.records import DOCUMENT, ComparisonDocument
from haq.studies.comparison.tables import LEAST_DISTANCE, accuracy_interval, as_frame, differences, report
from haq.tables import markdown

KEEP = [
    "network", "hardware", "objective", "budget", "agent", "seed", "evaluations", "distinct", "forward_images",
    "cpu_seconds", "search_accuracy", "selection_accuracy", "divergence", "noise", "accuracy", "report_divergence",
    "report_noise",
]  # fmt: skip
MEASURED = ("accuracy", "divergence", "noise")
"""Measured of every policy, on the search split."""
Json = dict[str, Any]


def network(document: ComparisonDocument) -> str:
    """Return the name of the network without its module."""
    return str(document.config["model"]).rpartition(":")[2]


def title(document: ComparisonDocument) -> str:
    """Return the network, the target and the budgets of a comparison."""
    config = document.config
    target = "size" if config["objective"] == "size" else f"{config['hardware']}, {config['objective']}"
    return f"{network(document)}, {target}, {', '.join(document.budgets)}"


def combined(documents: Iterable[ComparisonDocument]) -> pd.DataFrame:
    """Return the records of all comparisons with columns for network, device and objective."""
    frames = [
        as_frame(document).assign(
            network=network(document),
            hardware=document.config["hardware"],
            objective=document.config["objective"],
        )
        for document in documents
    ]
    return pd.concat(frames, ignore_index=True)


def pooled(frame: pd.DataFrame, document: ComparisonDocument, value: str, other: str) -> Interval:
    """Return the interval of the first method's advantage over another method.

    Differences are averaged over budgets and targets for each seed that has all of them. The settings in `document`
    must be the same for all pooled comparisons.
    """
    ours = document.agents[0]
    table = frame.pivot_table(index=["hardware", "objective", "budget", "seed"], columns="agent", values=value)
    by_seed = (table[ours] - table[other]).unstack("seed").dropna(axis=1).mean().tolist()
    if value == "accuracy":
        return accuracy_interval(by_seed, frame, document)
    return paired_interval(by_seed, comparisons=len(document.agents) - 1)


def pooled_rows(frame: pd.DataFrame, document: ComparisonDocument) -> Iterator[str]:
    """Yield Markdown rows, one per network and method: difference in points and error ratio per evaluation count."""
    ours = document.agents[0]
    frame = frame.assign(log=-np.log(frame["report_noise"].clip(lower=LEAST_DISTANCE)))
    checkpoints = sorted(frame["evaluations"].unique())
    columns = [f"points at {at} | error ratio at {at}" for at in checkpoints]
    yield f"| network | other method | {' | '.join(columns)} |"
    yield "|---" * (2 + 2 * len(checkpoints)) + "|"
    for name, of_network in frame.groupby("network", sort=False):
        for other in [each for each in of_network["agent"].unique() if each != ours]:
            cells = []
            for at in checkpoints:
                part = of_network[of_network["evaluations"] == at]
                if part.empty:
                    cells += ["-", "-"]
                    continue
                points, logs = pooled(part, document, "accuracy", other), pooled(part, document, "log", other)
                low, high = 100 * points.low, 100 * points.high
                cells.append(f"{100 * points.mean:+.2f} [{low:+.2f}, {high:+.2f}] {points.verdict}")
                cells.append(f"{exp(logs.mean):.2f} [{exp(logs.low):.2f}, {exp(logs.high):.2f}]")
            yield f"| {name} | {other} | " + " | ".join(cells) + " |"


def optimism_rows(frame: pd.DataFrame) -> Iterator[str]:
    """Yield Markdown rows, one per network and method: search and report accuracy of the final policies."""
    heads = ("network", "method", "evaluations", "search accuracy", "report accuracy", "gap, points")
    yield f"| {' | '.join(heads)} | search error | report error |"
    yield "|---" * 8 + "|"
    for name, of_network in frame.groupby("network", sort=False):
        last = of_network[of_network["evaluations"] == of_network["evaluations"].max()]
        columns = ["evaluations", "search_accuracy", "accuracy", "noise", "report_noise"]
        for agent, mean in last.groupby("agent", sort=False)[columns].mean().iterrows():
            search, report = 100 * mean["search_accuracy"], 100 * mean["accuracy"]
            cells = f"{mean['evaluations']:.0f} | {search:.2f} | {report:.2f} | {search - report:+.2f}"
            yield f"| {name} | {agent} | {cells} | {mean['noise']:.4f} | {mean['report_noise']:.4f} |"


def verdict_rows(documents: list[ComparisonDocument]) -> Iterator[str]:
    """Yield Markdown rows, one per comparison, budget and evaluation count: the number of methods by verdict."""
    kinds: tuple[Verdict, ...] = ("ahead", "not behind", "open", "behind")
    yield f"| comparison | budget | evaluations | {' | '.join(kinds)} |"
    yield "|---" * (3 + len(kinds)) + "|"
    for document in documents:
        verdicts = [(b, at, interval.verdict) for b, _, at, interval in differences(as_frame(document), document)]
        for budget in document.budgets:
            for at in document.checkpoints:
                here = [verdict for b, count, verdict in verdicts if (b, count) == (budget, at)]
                counts = " | ".join(str(here.count(kind)) for kind in kinds)
                name = title(document).rpartition(", ")[0] if len(document.budgets) == 1 else title(document)
                yield f"| {name} | {budget} | {at} | {counts} |"


def page(documents: list[ComparisonDocument], preface: str) -> str:
    """Return the whole README.md."""
    ours = documents[0].agents[0]
    lines = [preface.rstrip(), "", "## All budgets and targets of a network together", ""]
    lines += [
        f"`{ours}` minus another method in points of report accuracy, and the other method's relative output error on "
        f"the report images over that of `{ours}` (over 1: farther from float), by number of evaluations; averaged "
        "over budgets and targets for each seed, 95 % intervals over the seeds, corrected for the number of "
        "comparisons.",
        "",
        *pooled_rows(combined(documents), documents[0]),
        "",
        "## Search accuracy and report accuracy",
        "",
        "Means over budgets, targets and seeds. Where search images come from the training part, "
        "the float network has a gap, too.",
        "",
        *optimism_rows(combined(documents)),
        "",
        "## Verdicts by cell",
        "",
        *verdict_rows(documents),
    ]
    for document in documents:
        name = file_name(document)
        lines += ["", f"## {title(document)}", "", f"![curves]({name}.png)", "", markdown(report(document)).rstrip()]
    return "\n".join(lines) + "\n"


def evaluated(folders: Iterable[Path]) -> dict[str, NDArray[Any]]:
    """Return every policy evaluated by the comparisons of a network once per split seed, in a fixed order."""
    found: dict[tuple[int, tuple[tuple[int, ...], ...]], Json] = {}
    for journal in sorted(path for folder in folders for path in folder.glob("runs/*/episodes.jsonl")):
        split_seed = json.loads((journal.parent / CONFIG).read_text(encoding="utf-8"))["split_seed"]
        for line in map(json.loads, journal.read_text(encoding="utf-8").splitlines()):
            found[split_seed, tuple(zip(line["w_bits"], line["a_bits"], strict=True))] = line
    keys = sorted(found)
    values = {name: np.array([found[key][name] for key in keys], dtype=np.float32) for name in MEASURED}
    seeds, bits = (np.array([key[part] for key in keys], dtype=kind) for part, kind in ((0, np.int32), (1, np.int8)))
    return {"split_seed": seeds, "bits": bits, **values}


def write_evaluated(path: Path, folders: Iterable[Path]) -> None:
    """Write all evaluated policies to one file; equal policies give equal bytes."""
    buffer = BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **evaluated(folders))
    write_atomically(path, buffer.getvalue())


def file_name(document: ComparisonDocument) -> str:
    """Return the name of the plot, without suffix."""
    return title(document).replace(", ", "-").replace(" ", "-")


def main() -> None:
    """Read the comparisons and write page, data and plots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--preface", type=Path, help="Markdown that the page begins with")
    parser.add_argument("--out", type=Path, default=Path("results/methods"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    documents = [ComparisonDocument.model_validate_json((folder / DOCUMENT).read_bytes()) for folder in options.folders]
    preface = options.preface.read_text(encoding="utf-8") if options.preface else "# Comparison of search methods"
    for document in documents:
        save_figure(plot_comparison(document), options.out / f"{file_name(document)}.png")
    frame = combined(documents)
    write_atomically(options.out / "comparisons.csv", frame[KEEP].to_csv(index=False).encode())
    pairs = list(zip(options.folders, documents, strict=True))
    for name in dict.fromkeys(map(network, documents)):
        write_evaluated(options.out / f"{name}.npz", [folder for folder, each in pairs if network(each) == name])
    write_atomically(options.out / "README.md", page(documents, preface).encode())


if __name__ == "__main__":
    main()
