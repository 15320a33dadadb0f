"""Splits of a language modelling task: disjoint segments of the three parts of a text."""

from dataclasses import dataclass, replace
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from haq.errors import UserError
from haq.tasks.base import SplitName
from haq.tasks.language_modelling.segments import Segments, segment_count
from haq.tasks.language_modelling.text import Corpus, Part
from haq.tasks.options import TaskOptions
from haq.tasks.splits import MAX_SEARCH_ITEMS, SELECTION_SHARE

RULE = (
    "segments of consecutive tokens: train is the training text; search and selection are consecutive parts of valid "
    "from the segment that split_seed draws, the first for 0, or are cut off from train; report is the test text; "
    "calibration is the beginning of each stream of train; tokens after the last whole segment are left out, except "
    "where a network with a state reads the whole test text in one stream"
)
"""Description of how splits are drawn, which runs record."""
TRAIN_SHARE = 0.1
"""Largest share of train that is drawn for the search."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Division of text into segments.

    Attributes:
        length: Number of tokens of a segment.
        streams: Number of streams that are read side by side.
        report_streams: The same, of the report split.
        with_tail: Whether the tokens after the last whole segment of the test text are an item, if it is read in one
            stream and no number of segments is given.
        unit: Name of tokens in messages.
    """

    length: int
    streams: int
    report_streams: int
    with_tail: bool
    unit: str


def draw_segments(corpus: Corpus, layout: Layout, options: TaskOptions) -> dict[SplitName, Segments]:
    """Draw the splits of a task; calibration is part of train, the others are disjoint.

    Args:
        corpus: Text.
        layout: Length of segments and number of streams.
        options: Numbers of segments, seed and source of the search split.

    Returns:
        Segments by split; without `selection` if fewer than five are drawn for the search.

    Raises:
        UserError: A part is shorter than one segment, or has fewer segments than are asked of it.
    """
    places = {part: _places(corpus, part, layout) for part in get_args(Part)}
    source: Part = "train" if options.search_from == "train" else "valid"
    first = int(np.random.default_rng(options.split_seed).integers(len(places[source]))) if options.split_seed else 0
    drawn, rest = _cut(places[source].roll(-first), _search_size(len(places[source]), options), part=source)
    search = len(drawn) - int(SELECTION_SHARE * len(drawn))
    train = rest.sort().values if source == "train" else places["train"]
    report, _ = _cut(places["test"], options.report_images or len(places["test"]), part="test")
    chosen: dict[SplitName, tuple[Part, Tensor]] = {
        "train": ("train", train),
        "search": (source, drawn[:search]),
        "selection": (source, drawn[search:]),
        "report": ("test", report),
    }
    splits = {
        name: Segments(corpus.parts[part], layout.length, found, min(layout.streams, len(found)))
        for name, (part, found) in chosen.items()
        if len(found)
    }
    splits["report"] = _report(splits["report"], layout, whole=not options.report_images)
    if "train" not in splits:
        raise UserError(f"no segment of train is left for calibration; draw fewer than {len(drawn)} for the search")
    splits["calibration"] = beginning(splits["train"], options.calibration_images)
    return splits


def beginning(segments: Segments, count: int) -> Segments:
    """Return the first items of a split, which are the beginnings of its streams.

    Args:
        segments: Items.
        count: Number of items; all if there are fewer.

    Returns:
        The first items, in the same order.
    """
    places = segments.order[:count].sort().values
    return Segments(segments.text, segments.length, places, min(segments.streams, len(places)))


def without(segments: Segments, others: Segments) -> Segments | None:
    """Return the items of a split that are not in another split of the same text.

    Args:
        segments: Items.
        others: Items to leave out.

    Returns:
        The other items; None if there are none.
    """
    places = segments.places[~torch.isin(segments.places, others.places)]
    if not len(places):
        return None
    return Segments(segments.text, segments.length, places, min(segments.streams, len(places)))


def _report(segments: Segments, layout: Layout, *, whole: bool) -> Segments:
    """Return the report split in its own number of streams, with its last tokens where the layout asks for them."""
    streams = min(layout.report_streams, len(segments))
    has_tail = whole and layout.with_tail and streams == 1
    rest = len(segments.text) - 1 - len(segments) * layout.length
    return replace(segments, streams=streams, tail=rest if has_tail else 0)


def _places(corpus: Corpus, part: Part, layout: Layout) -> Tensor:
    text = corpus.parts[part]
    count = segment_count(text, layout.length)
    if not count:
        raise UserError(
            f"{part} has {len(text)} {layout.unit}s, and one segment takes {layout.length + 1}; give more text, or "
            "shorter segments, as in text:DIR?length=10"
        )
    return torch.arange(count)


def _search_size(available: int, options: TaskOptions) -> int:
    """Return the number of segments for the search: by default all of valid, or a tenth of train, up to a limit."""
    share = TRAIN_SHARE if options.search_from == "train" else 1.0
    return options.search_images or max(1, min(MAX_SEARCH_ITEMS, int(share * available)))


def _cut(places: Tensor, count: int, *, part: Part) -> tuple[Tensor, Tensor]:
    if count > len(places):
        raise UserError(f"{count} segments asked of {part}, which has {len(places)}; ask for fewer or add text")
    return places[:count], places[count:]
