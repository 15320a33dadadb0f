"""Tables and picture of the growth of searches."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

matplotlib.use("agg")
Cells = Mapping[str, Any]
"""Results by name of the cell."""


def read_cells(folder: Path) -> Cells:
    """Read the results of a folder."""
    documents = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    return {name: document["result"] for name, document in documents.items()}


def tables(found: Cells, before: Cells) -> str:
    """Return Markdown tables of all cells, before and after."""
    lines: list[str] = []
    for title, cells in (("before", before), ("after", found)):
        lines += [
            f"{title}:",
            "",
            "| cell | episodes or policies | s an episode | peak MiB | checkpoint kB | its s | journal MB | resume s |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for name, cell in cells.items():
            for mark in cell["marks"] if isinstance(cell, dict) and "marks" in cell else ():
                is_end = mark["episodes"] == cell.get("episodes")
                lines.append(
                    f"| {name} | {mark['episodes']:,} | {mark['last_seconds']:.4f} | {mark['mebibytes']:.0f} | "
                    f"{mark['checkpoint_bytes'] / 1e3:.0f} | {mark['checkpoint_seconds']:.3f} | "
                    f"{mark['journal_bytes'] / 1e6:.2f} | {format(cell['resuming_s'], '.2f') if is_end else ''} |"
                )
        lines += [f"{name}: {json.dumps(cell)}" for name, cell in cells.items() if "marks" not in cell]
        lines.append("")
    return "\n".join(lines)


def draw(found: Cells, before: Cells, path: Path) -> None:
    """Draw time against layers and against known policies, memory, checkpoints and the work on journals."""
    figure, axes = plt.subplots(2, 3, figsize=(13, 7.5), layout="constrained")
    _draw_layers(axes[0, 0], found, before)
    told = {
        "last_seconds": "processor time of an episode in s",
        "mebibytes": "peak memory above the start in MiB",
        "checkpoint_bytes": "bytes of a checkpoint",
        "checkpoint_seconds": "processor time of a checkpoint in s",
    }
    panels = (axes[0, 1], axes[0, 2], axes[1, 0], axes[1, 1])
    for (name, label), panel in zip(told.items(), panels, strict=True):
        _draw_told(panel, found, before, name)
        panel.set(xlabel="policies that the method was told", ylabel=label, xscale="log", yscale="log")
    axes[0, 1].legend(frameon=False, fontsize="small")
    _draw_journals(axes[1, 2], found, before)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _draw_layers(panel: Axes, found: Cells, before: Cells) -> None:
    for cells, style, title in ((before, "--", "before"), (found, "-", "after")):
        for episodes, color in ((100, "C0"), (1000, "C1")):
            chosen = [cell for name, cell in cells.items() if name.startswith("ddpg-") and cell["layers"] >= 20]
            points = {
                cell["layers"]: mark["last_seconds"]
                for cell in sorted(chosen, key=lambda each: each["layers"])
                for mark in cell["marks"]
                if mark["episodes"] == episodes
            }
            if points:
                label = f"{title}, {episodes:,} episodes"
                panel.plot(list(points), list(points.values()), "o" + style, color=color, label=label)
    panel.axhline(0.1, color="grey", linewidth=0.8)
    panel.set(xlabel="layers", ylabel="processor time of an episode of ddpg in s", xscale="log", yscale="log")
    panel.set_xticks((20, 50, 100, 300, 1000), ("20", "50", "100", "300", "1000"))
    panel.minorticks_off()
    panel.legend(frameon=False, fontsize="small")


def _draw_told(panel: Axes, found: Cells, before: Cells, key: str) -> None:
    for agent, color in _agents(found):
        for cells, style in ((before, "--"), (found, "-")):
            marks = cells.get(f"told-{agent}-10", {}).get("marks", ())
            points = {mark["episodes"]: mark[key] for mark in marks if mark[key] > 0}
            label = agent if style == "-" else None
            panel.plot(list(points), list(points.values()), "o" + style, color=color, label=label, markersize=4)


def _agents(cells: Cells) -> Iterator[tuple[str, str]]:
    names = [name.split("-")[1] for name in cells if name.startswith("told-")]
    for number, name in enumerate(names):
        yield name, f"C{number}"


def _draw_journals(panel: Axes, found: Cells, before: Cells) -> None:
    steps = ("resuming", "reading", "finishing", "plotting", "explaining")
    for number, step in enumerate(steps):
        for cells, style in ((before, "--"), (found, "-")):
            chosen = sorted(
                (cell for name, cell in cells.items() if name.startswith("journal-")), key=lambda each: each["lines"]
            )
            seconds = [cell[f"{step}_s"] for cell in chosen]
            label = step if style == "-" else None
            panel.plot([cell["lines"] for cell in chosen], seconds, "o" + style, color=f"C{number}", label=label)
    panel.set(xlabel="lines of the journal", ylabel="processor time in s", xscale="log", yscale="log")
    panel.legend(frameon=False, fontsize="small", title="dashed: before")
