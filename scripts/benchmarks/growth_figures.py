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
            for mark in _marks(cell):
                is_end = mark["episodes"] == cell.get("episodes")
                resuming = format(cell["resuming_s"], ".2f") if is_end else ""
                lines.append(
                    f"| {name} | {mark['episodes']:,} | {mark['last_seconds']:.4f} | {mark['mebibytes']:.0f} | "
                    f"{mark.get('checkpoint_bytes', 0) / 1e3:.0f} | {mark.get('checkpoint_seconds', 0):.3f} | "
                    f"{mark.get('journal_bytes', 0) / 1e6:.2f} | {resuming} |"
                )
        lines += [f"{name}: {json.dumps(cell)}" for name, cell in cells.items() if not _marks(cell)]
        lines.append("")
    return "\n".join(lines)


def _marks(cell: Any) -> list[dict[str, Any]]:
    marks: list[dict[str, Any]] = cell.get("marks", []) if isinstance(cell, dict) else []
    return marks


def draw(found: Cells, before: Cells, path: Path) -> None:
    """Draw time against layers, and time, memory and checkpoints against the policies that methods know."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    _draw_layers(axes[0, 0], found, before)
    told = {
        "last_seconds": "processor time of an episode in s",
        "mebibytes": "peak memory above the start in MiB",
        "checkpoint_bytes": "bytes of a checkpoint",
    }
    for (name, label), panel in zip(told.items(), (axes[0, 1], axes[1, 0], axes[1, 1]), strict=True):
        _draw_told(panel, found, before, name)
        panel.set(xlabel="policies that the method was told", ylabel=label, xscale="log")
        panel.set_yscale("linear" if name == "mebibytes" else "log")
        panel.legend(frameon=False, fontsize="small", title="dashed: before")
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
