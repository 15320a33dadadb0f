"""Figures as inline SVG: text as text, colours that follow the page's theme, ids that are unique on the page."""

import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from xml.etree import ElementTree as ET

import matplotlib
from markupsafe import Markup
from matplotlib.figure import Figure

from haq.reporting.plots.files import METADATA
from haq.reporting.plots.policy import PARTS
from haq.reporting.plots.style import BLUE, FAINT, GREEN, INK, MUTED, SKY, VERMILION, house_style

_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_THEME: Mapping[str, str] = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    FAINT: "var(--faint)",
    "#ffffff": "var(--card)",
    BLUE.lower(): "var(--blue)",
    SKY.lower(): "var(--sky)",
    GREEN.lower(): "var(--green)",
    VERMILION.lower(): "var(--vermilion)",
}
"""Colours of the figures that differ between light and dark pages."""
_DROPPED = ("metadata", "style", "title")
_ROUNDED = ("d", "x", "y", "transform", "points", "width", "height", "cx", "cy", "r")
_REFERENCE = re.compile(r"#([\w-]+)")
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def inline_svg(figure: Figure, *, name: str, alt: str, is_themed: bool = True) -> Markup:
    """Convert a figure to an SVG element of a page.

    Args:
        figure: The figure.
        name: Name that is unique on the page, the prefix of all ids.
        alt: Text that stands for the figure where it is not seen.
        is_themed: Whether ink and background follow the theme of the page; not for figures with shaded cells, whose
            white stands for a value.

    Returns:
        The element.
    """
    buffer = BytesIO()
    with house_style(), matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata=dict(METADATA[".svg"]), transparent=True)
    root = ET.fromstring(buffer.getvalue())
    used = {match for element in root.iter() for value in element.attrib.values() for match in _references(value)}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.removeprefix(_SVG) in _DROPPED:
                parent.remove(child)
    for element in root.iter():
        _convert(element, name, used, is_themed=is_themed)
    width = float(root.attrib.pop("width").removesuffix("pt"))
    for key in ("height", "version", "id"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": alt, "style": f"--width: {width:.0f}"}
    return Markup(ET.tostring(root, encoding="unicode"))


def _convert(element: ET.Element, name: str, used: set[str], *, is_themed: bool) -> None:
    """Make an element one of HTML: no namespaces, own ids, short numbers, colours of the theme, no line breaks."""
    element.tag = element.tag.removeprefix(_SVG)
    own = element.attrib.pop("id", None)
    attributes = {}
    for key, value in element.attrib.items():
        text = _REFERENCE.sub(rf"#{name}-\1", value) if key.endswith("href") or "url(" in value else value
        if key in _ROUNDED:
            text = _LONG_NUMBER.sub(lambda number: f"{float(number[0]):.2f}", text)
        if is_themed and key == "style":
            for colour, variable in _THEME.items():
                text = text.replace(colour, variable)
        attributes[key.removeprefix(_XLINK)] = " ".join(text.split())
    part, _, position = (own or "").partition("-")
    if part in PARTS and position.isdecimal():
        attributes |= {"class": "bar", "data-layer": position}
    elif own in used:
        attributes["id"] = f"{name}-{own}"
    element.attrib.clear()
    element.attrib.update(attributes)
    if element.tag not in ("text", "tspan"):
        element.text = None
    element.tail = None


def _references(value: str) -> Iterator[str]:
    """Yield the ids that the value of an attribute refers to."""
    if value.startswith("#") or "url(" in value:
        yield from _REFERENCE.findall(value)
