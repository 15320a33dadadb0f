"""Figures of runs and policies by kind: those of a folder's files, and those that need prices."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from matplotlib.figure import Figure

from haq.config import SearchConfig
from haq.errors import UserError
from haq.experiment.policy_source import policy_source
from haq.experiment.specialization import compare_policies
from haq.policy import load_policy
from haq.reporting.plots.policy import plot_policy
from haq.reporting.plots.roofline import plot_roofline
from haq.reporting.plots.run import FolderPlot, draw_run
from haq.reporting.plots.specialization import plot_specialization
from hardware_sim.catalog import load_accelerator

PlotKind = Literal[FolderPlot, "roofline", "specialization"]
_NAMES = {"learning": "learning curve", "sensitivity": "sensitivities", "error": "errors of layers"}


def draw_figure(
    sources: Sequence[Path],
    kind: PlotKind,
    *,
    config: SearchConfig,
    devices: Sequence[str] = (),
    title: str | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> Figure:
    """Draw a figure of a run or a policy, or for `specialization` of several.

    Args:
        sources: Folders of runs, or policy files.
        kind: Which figure.
        config: Settings that take precedence over those of the run, for `roofline` and `specialization`.
        devices: Devices of `specialization`; if empty, those that the policies were searched for.
        title: Title of the figure; None for its own.
        notify: Receives a line for every callable that is called because the files name it.

    Returns:
        The figure.

    Raises:
        UserError: A file is missing or damaged, or the source has no figure of this kind.
    """
    if kind == "specialization":
        return plot_specialization(compare_policies(sources, config, devices, notify=notify), title=title)
    if devices:
        raise UserError("--compare is for --kind specialization; a roofline takes one --hardware")
    if len(sources) > 1:
        raise UserError(f"{len(sources)} sources for one picture; only --kind specialization takes several")
    (source,) = sources
    if kind == "roofline":
        return _roofline(source, config, title, notify)
    if source.is_dir():
        return draw_run(source, kind, title=title)
    if kind == "policy":
        return plot_policy(load_policy(source), title=title)
    raise UserError(f"{source} is not the folder of a run; a policy file has no {_NAMES.get(kind, kind)}")


def _roofline(source: Path, config: SearchConfig, title: str | None, notify: Callable[[str], None]) -> Figure:
    found = policy_source(source, config, notify=notify)
    table = found.priced().table
    return plot_roofline(
        table,
        load_accelerator(found.config.hardware),
        w_bits=found.policy.w_bits,
        a_bits=found.policy.a_bits,
        title=title or f"{found.config.model} on {table.hardware}, batch {table.batch}",
    )
