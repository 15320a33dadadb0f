"""Figures of runs and policies, and pages on runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from haq.config import search_config
from haq.errors import UserError
from haq.policy import Policy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from haq.reporting.plots.figures import PlotKind

Source = str | Path
"""Folder of a run, or a policy file."""


def plot(
    source: Source | Policy | Sequence[Source],
    kind: "PlotKind" = "policy",
    *,
    title: str | None = None,
    compare: Sequence[str] = (),
    **settings: Any,
) -> "Figure":
    """Draw a figure of a run or a policy, as `haq plot` does.

    Args:
        source: Folder of a run, a policy file, or for `policy` the policy itself; for `specialization` also several.
        kind: `policy`, `learning`, `sensitivity`, `error`, `roofline`, `pareto`, `compare` or `specialization`.
        title: Title of the figure; None for its own.
        compare: Devices of `specialization`; if empty, those that the policies were searched for.
        settings: Fields of `haq.config.SearchConfig` that override those of the run, for `roofline` and
            `specialization`.

    Returns:
        The figure, which `savefig` writes in any format of matplotlib.

    Raises:
        UserError: A file is missing or damaged, or the source has no figure of this kind.

    Examples:
        >>> plot("results/digits", "error").savefig("errors.pdf")  # doctest: +SKIP
    """
    from haq.reporting.plots.figures import draw_figure  # matplotlib takes longer to import than all the rest
    from haq.reporting.plots.policy import plot_policy

    if isinstance(source, Policy):
        if kind != "policy":
            raise UserError(f"kind={kind!r} needs the folder of a run or a policy file; a policy itself has only bits")
        return plot_policy(source, title=title)
    sources = [source] if isinstance(source, str | Path) else source
    return draw_figure(
        [Path(each) for each in sources], kind, config=search_config(**settings), devices=compare, title=title
    )


def report(
    runs: Source | Sequence[Source], *, out: str | Path | None = None, compare: Sequence[str] | None = None
) -> Path:
    """Write one HTML page on finished runs, as `haq report` does.

    Args:
        runs: Folder of a finished search, reconstruction or fine-tuning, or of `haq compare` or `haq pareto`; several
            are compared.
        out: File of the page; None for `report.html` in the folder of a single run.
        compare: Devices on which the policies are priced; None for all shipped ones that do so in milliseconds.

    Returns:
        The file, which refers to no other.

    Raises:
        UserError: A folder holds no finished run, a file in it is damaged, or `out` cannot be used.
        DescriptionError: A device does not exist, or its file is invalid.

    Examples:
        >>> report(["results/a", "results/b"], out="comparison.html")  # doctest: +SKIP
    """
    from haq.reporting.page.write import write_report  # imports matplotlib

    folders = [runs] if isinstance(runs, str | Path) else runs
    return write_report([Path(each) for each in folders], None if out is None else Path(out), devices=compare)
