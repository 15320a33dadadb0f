"""Figures of a run for the page, each with a text that stands for it."""

from collections.abc import Iterator
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.figure import Figure

from haq.costs.pricing import BASELINE_BITS
from haq.errors import UserError
from haq.experiment.prior.measured import DOCUMENT as SENSITIVITY
from haq.formatting import model_title, percent
from haq.reporting.page.runs import ReportedRun
from haq.reporting.page.svg import inline_svg
from haq.reporting.plots.error import plot_error
from haq.reporting.plots.roofline import plot_roofline
from haq.reporting.plots.run import applicable, draw_run
from haq.runs.summary import Summary
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import UnsupportedError


@dataclass(frozen=True, slots=True)
class PageFigure:
    """Figure of the page.

    Attributes:
        name: Name that is unique on the page.
        svg: The figure.
        caption: How to read it.
        is_themed: Whether its colours follow the theme of the page.
    """

    name: str
    svg: Markup
    caption: str
    is_themed: bool = True


def page_figure(figure: Figure, *, name: str, alt: str, caption: str, is_themed: bool = True) -> PageFigure:
    """Convert a figure for the page.

    Args:
        figure: The figure.
        name: Name that is unique on the page.
        alt: Text that stands for the figure where it is not seen.
        caption: How to read it.
        is_themed: Whether its colours follow the theme of the page.

    Returns:
        The figure of the page.
    """
    return PageFigure(name, inline_svg(figure, name=name, alt=alt, is_themed=is_themed), caption, is_themed)


def policy_figure(run: ReportedRun, name: str) -> PageFigure:
    """Draw the bits of a run.

    Args:
        run: The run.
        name: Name that is unique on the page.

    Returns:
        The figure.
    """
    figure = draw_run(run.folder.path, "policy", title="Bits of every layer")
    count = len(run.policy.layers)
    alt = f"Bars of the weight bits and the activation bits of {count} layers; the table below has the same numbers."
    return page_figure(figure, name=name, alt=alt, caption="")


def error_figure(run: ReportedRun, name: str) -> PageFigure | None:
    """Draw the error that every layer adds.

    Args:
        run: The run.
        name: Name that is unique on the page.

    Returns:
        The figure; None if the run did not record errors.
    """
    if run.errors is None:
        return None
    figure = plot_error(run.errors, [layer.kind for layer in run.policy.layers], title="Error that every layer adds")
    known = [(layer.added, layer.name) for layer in run.errors.layers if layer.added is not None]
    largest = ", ".join(layer for _, layer in sorted(known, key=lambda pair: -pair[0])[:3])
    last = next((layer.accumulated for layer in reversed(run.errors.layers) if layer.accumulated is not None), None)
    end = "" if last is None else f" At the output of the last layer {last:.2g} has accumulated."
    caption = (
        "Power of the difference from the float network over the power of the float network, at the output of each "
        "layer: of this layer alone (marks), and of all layers up to it (line). Normalization, activations and "
        "shortcuts in between may reduce it."
    )
    return page_figure(figure, name=name, alt=f"The largest errors are added by {largest}.{end}", caption=caption)


def roofline_figure(run: ReportedRun, name: str) -> PageFigure | None:
    """Draw the roofline of the device with the layers at 8 bits and with the policy.

    Args:
        run: The run.
        name: Name that is unique on the page.

    Returns:
        The figure; None if the run has no costs, or the device no roofline.
    """
    if run.priced is None:
        return None
    w_bits, a_bits, table = run.policy.w_bits, run.policy.a_bits, run.priced.table
    title = f"Roofline of {table.hardware}, batch {table.batch}"
    try:
        figure = plot_roofline(
            table,
            load_accelerator(run.config.hardware),
            w_bits=w_bits,
            a_bits=a_bits,
            before=BASELINE_BITS,
            title=title,
        )
    except (UserError, UnsupportedError):
        return None
    bounds = [table.bound(place, *bits) for place, bits in enumerate(zip(w_bits, a_bits, strict=True))]
    waiting = sum(bound == "memory" for bound in bounds)
    caption = (
        "Layers on the slope wait for memory, where fewer bits save traffic; those below the flat roofs compute. Each "
        f"ring is a layer at {BASELINE_BITS} bits, connected with its mark."
    )
    alt = f"Performance over arithmetic intensity; memory bounds {waiting} of {len(bounds)} layers."
    return page_figure(figure, name=name, alt=alt, caption=caption)


def folder_figures(run: ReportedRun, prefix: str) -> Iterator[tuple[str, PageFigure]]:
    """Draw the sensitivities and the learning curve of a run, as far as it has them.

    Args:
        run: The run.
        prefix: Prefix of names that are unique on the page.

    Yields:
        Headings and figures.
    """
    found = applicable(run.folder)
    if "sensitivity" in found:
        title = f"Sensitivity of {model_title(run.policy.model)}"
        figure = draw_run(run.folder.path, "sensitivity", title=title)
        measured = (run.folder.path / SENSITIVITY).is_file()
        caption = (
            "Darker cells lose more. Weights and input of one layer at a time are quantized, all else is in float."
        )
        alt = "Loss of every layer at every width, measured." if measured else "Loss of every layer, as expected."
        name = f"{prefix}-sensitivity"
        yield "Sensitivity", page_figure(figure, name=name, alt=alt, caption=caption, is_themed=False)
    if "learning" in found:
        figure = draw_run(run.folder.path, "learning", title=f"{run.config.agent}, seed {run.config.seed}")
        heading, describe = ("Search", _search_alt) if run.search else ("Training", _training_alt)
        caption = "Scores of all policies on the search split." if run.search else "Scores of every epoch."
        alt = describe(run)
        yield heading, page_figure(figure, name=f"{prefix}-learning", alt=alt, caption=caption)


def _search_alt(run: ReportedRun) -> str:
    summary: Summary | None = run.search
    assert summary is not None
    score = run.metric.text(summary.search_accuracy, digits=2)
    ratio = percent(summary.cost_ratio)
    return f"Scores of {summary.episodes} episodes; the policy found has {score} at {ratio} of the cost of 8 bits."


def _training_alt(run: ReportedRun) -> str:
    return f"Loss and scores of every epoch; at the end {run.metric.text(run.summary.accuracy)} on the report split."
