"""Roofline of a device: its limits of arithmetic and memory, and the layers of a network below them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from haq.errors import UserError
from haq.formatting import counted, format_count, percent
from haq.reporting.plots.style import (
    HEADER_INCHES,
    INK,
    LEGEND_INCHES,
    MARKS,
    MUTED,
    SMALL_SIZE,
    add_header,
    add_legend,
    house_style,
    new_figure,
)
from hardware_sim.accelerator import Accelerator
from hardware_sim.cost import Bits, CostTable, width_index
from hardware_sim.layer import LayerKind
from hardware_sim.roofline import arithmetic_intensity, attainable_macs_per_s

WIDTH, PLOT_INCHES = 6.4, 3.8
ROOFS: tuple[Bits, ...] = (2, 4, 8, None)
"""Widths of both operands whose roofs are drawn if the device supports them."""
MARK_AREA, SHARE_AREA = 12.0, 600.0
"""Area of the smallest mark, and additional area for a share of 1, in square points."""
MARGIN_FACTOR = 2.5
"""Factor of free space around the marks, on the logarithmic axes."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Positions of layers on the roofline, one entry per layer.

    Attributes:
        kinds: Kinds of the layers.
        intensity: MACs per byte of main memory, [layer].
        macs_per_s: Performance in MAC/s, [layer].
        share: Share of the network's latency, [layer].
        bounds: `compute` or `memory`, which bounds the latency; None if the device does not model it, [layer].
    """

    kinds: tuple[LayerKind, ...]
    intensity: FloatArray
    macs_per_s: FloatArray
    share: FloatArray
    bounds: tuple[str | None, ...]


def roofline_points(table: CostTable, *, w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> Points:
    """Compute the positions of all layers that have MACs.

    Args:
        table: Costs of the layers on the device.
        w_bits: Bits of the weights of every layer.
        a_bits: Bits of the input activations of every layer.

    Returns:
        The positions.

    Raises:
        UserError: The device does not model latency or the traffic of main memory.
        UnsupportedError: The device does not support a layer at its widths.
    """
    if table.dram_bits is None or table.latency_s is None:
        raise UserError(f"{table.hardware} does not model traffic of main memory; there is no roofline to draw")
    whole = table.policy_cost(w_bits, a_bits)
    busy = [index for index, layer in enumerate(table.layers) if layer.macs]
    at = (busy, [width_index(w_bits[index]) for index in busy], [width_index(a_bits[index]) for index in busy])
    macs = table.batch * np.array([table.layers[index].macs for index in busy], dtype=np.float64)
    latency_s = table.latency_s[at]
    return Points(
        kinds=tuple(table.layers[index].kind for index in busy),
        intensity=arithmetic_intensity(macs, table.dram_bits[at]),
        macs_per_s=macs / latency_s,
        share=latency_s / (whole.latency_s or 1.0),
        bounds=tuple(table.bound(index, w_bits[index], a_bits[index]) for index in busy),
    )


@house_style()
def plot_roofline(
    table: CostTable,
    accelerator: Accelerator,
    *,
    w_bits: Sequence[Bits],
    a_bits: Sequence[Bits],
    before: int | None = None,
    title: str | None = None,
) -> Figure:
    """Draw MAC/s over MACs per byte (Williams et al., CACM 2009): the roofs by width, and the layers at their bits.

    The area of a mark grows linearly with the layer's share of the latency.

    Args:
        table: Costs of the layers on `accelerator`.
        accelerator: The device.
        w_bits: Bits of the weights of every layer.
        a_bits: Bits of the input activations of every layer.
        before: Uniform width at which the layers are drawn as well, each connected with its mark; None for none.
        title: Title of the figure; device and batch if None.

    Returns:
        The figure.

    Raises:
        UserError: The device does not model latency or its main memory.
        UnsupportedError: The device does not support a layer at its widths.
    """
    bandwidth, roofs = accelerator.bytes_per_s, roofs_by_peak(accelerator)
    if bandwidth is None or not roofs:
        raise UserError(f"{accelerator.name} does not model its main memory; there is no roofline to draw")
    points = roofline_points(table, w_bits=w_bits, a_bits=a_bits)
    uniform = [before] * len(table.layers)
    earlier = None if before is None else roofline_points(table, w_bits=uniform, a_bits=uniform)
    top = HEADER_INCHES + LEGEND_INCHES
    figure = new_figure(WIDTH, top + PLOT_INCHES, top=top)
    axes = figure.subplots()
    _set_scales(axes, [points] if earlier is None else [points, earlier], roofs=list(roofs), bytes_per_s=bandwidth)
    _name_memory_roof(axes, bytes_per_s=bandwidth, ridge=min(roofs) / bandwidth)
    for peak, label in roofs.items():
        _draw_roof(axes, label, macs_per_s=peak, bytes_per_s=bandwidth)
    handles = _draw_layers(axes, points)
    if earlier is not None:
        handles.append(_draw_before(axes, earlier, points, label=f"at {before} bits"))
    add_legend(axes, handles)
    subtitle = roofline_subtitle(points)
    if earlier is not None:
        subtitle += f"; at {before} bits {percent(_waiting(earlier))}"
    add_header(figure, title or f"{table.hardware}, batch {table.batch}", subtitle)
    return figure


def roofs_by_peak(accelerator: Accelerator) -> dict[float, str]:
    """List the flat roofs of a device, highest first.

    Args:
        accelerator: The device.

    Returns:
        Labels of the widths by peak performance in MAC/s; widths with the same peak share a label.

    Examples:
        >>> from hardware_sim.catalog import load_accelerator
        >>> roofs_by_peak(load_accelerator("systolic-tpu"))
        {45875200000000.0: '2, 4, 8 bits'}
    """
    widths: dict[float, list[str]] = {}
    for bits in ROOFS:
        peak = accelerator.peak_macs_per_s(bits, bits)
        if peak is not None:
            widths.setdefault(peak, []).append("float" if bits is None else str(bits))
    names = {peak: ", ".join(widths[peak]) for peak in sorted(widths, reverse=True)}
    return {peak: name if name.endswith("float") else f"{name} bits" for peak, name in names.items()}


def roofline_subtitle(points: Points) -> str:
    """Summarize how much of the latency is bound by memory.

    Args:
        points: Positions of the layers.

    Returns:
        One line.
    """
    known = [bound == "memory" for bound in points.bounds if bound is not None]
    if not known:
        return f"{counted(len(points.kinds), 'layer')}; area: part of the latency"
    of_layers = f"{sum(known)} of {counted(len(known), 'layer')}"
    return f"{of_layers} bound by memory, {percent(_waiting(points))} of the latency (area of the marks)"


def _waiting(points: Points) -> float:
    """Return the share of the latency in layers that memory bounds."""
    return float(sum(share for share, bound in zip(points.share, points.bounds, strict=True) if bound == "memory"))


def _set_scales(axes: Axes, shown: Sequence[Points], *, roofs: Sequence[float], bytes_per_s: float) -> None:
    ridges = [peak / bytes_per_s for peak in roofs]
    intensity = np.concatenate([points.intensity for points in shown])
    lowest = min(*(points.macs_per_s.min() for points in shown), intensity.min() * bytes_per_s)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(min(intensity.min(), *ridges) / MARGIN_FACTOR, max(intensity.max(), *ridges) * MARGIN_FACTOR**2)
    axes.set_ylim(lowest / MARGIN_FACTOR, max(roofs) * MARGIN_FACTOR)
    for axis, label in ((axes.xaxis, "arithmetic intensity, MAC per byte"), (axes.yaxis, "performance, MAC/s")):
        axis.set_label_text(label)
        axis.set_major_formatter(_plain)
        axis.set_minor_formatter(NullFormatter())


def _plain(value: float, _position: float) -> str:
    return f"{value:g}" if value < 1e5 else format_count(value)


def _draw_roof(axes: Axes, label: str, *, macs_per_s: float, bytes_per_s: float) -> None:
    low, high = axes.get_xlim()
    intensity = np.array([low, macs_per_s / bytes_per_s, high])
    roof = attainable_macs_per_s(intensity, macs_per_s=macs_per_s, bytes_per_s=bytes_per_s)
    axes.plot(intensity, roof, color=INK, linewidth=1, zorder=1.5)
    axes.annotate(
        label, (high, macs_per_s), xytext=(-2, 2), textcoords="offset points", ha="right", size=SMALL_SIZE, color=MUTED
    )


def _name_memory_roof(axes: Axes, *, bytes_per_s: float, ridge: float) -> None:
    """Write the bandwidth beside the sloped roof that all widths share."""
    axes.annotate(
        f"{bytes_per_s / 1e9:.3g} GB/s",
        (ridge, ridge * bytes_per_s),
        xytext=(-10, 1),
        textcoords="offset points",
        ha="right",
        size=SMALL_SIZE,
        color=MUTED,
    )


def _draw_layers(axes: Axes, points: Points) -> list[Artist]:
    """Draw the marks of one kind of layer after the other, in the order of the legend."""
    handles: list[Artist] = []
    for kind, mark in MARKS.items():
        chosen = np.array([other == kind for other in points.kinds])
        if not chosen.any():
            continue
        look: dict[str, Any] = {"color": mark.colour, "marker": mark.marker, "edgecolors": "white", "linewidths": 0.6}
        large_first = np.flatnonzero(chosen)[np.argsort(-points.share[chosen], kind="stable")]
        areas = MARK_AREA + SHARE_AREA * points.share[large_first]
        axes.scatter(points.intensity[large_first], points.macs_per_s[large_first], s=areas, zorder=2, **look)
        handles.append(axes.scatter([], [], s=4 * MARK_AREA, label=mark.label, **look))
    return handles


def _draw_before(axes: Axes, earlier: Points, points: Points, *, label: str) -> Artist:
    """Draw layers at other bits as small rings, each connected with its mark, and return the legend's entry."""
    x, y = np.stack([earlier.intensity, points.intensity]), np.stack([earlier.macs_per_s, points.macs_per_s])
    axes.plot(x, y, color=MUTED, linewidth=0.5, alpha=0.6, zorder=1.6)
    look: dict[str, Any] = {"facecolors": "none", "edgecolors": MUTED, "linewidths": 0.7, "s": MARK_AREA}
    axes.scatter(earlier.intensity, earlier.macs_per_s, zorder=1.7, **look)
    return axes.scatter([], [], label=label, **look)
