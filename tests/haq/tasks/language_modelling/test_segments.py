"""Order of segments: streams that continue from batch to batch, disjoint splits."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Generator, Tensor

from haq.tasks.language_modelling.segments import Segments, stream_order
from haq.tasks.language_modelling.splits import Layout, beginning, draw_segments, without
from haq.tasks.language_modelling.text import Corpus
from haq.tasks.options import TaskOptions

LAYOUT = Layout(length=10, streams=4, report_streams=1, with_tail=True, unit="word")


def corpus(train: int, valid: int, test: int) -> Corpus:
    parts = {"train": train, "valid": valid, "test": test}
    starts = dict(zip(parts, (0, 10_000, 20_000), strict=True))
    return Corpus(("a",), {part: torch.arange(size) + starts[part] for part, size in parts.items()})  # type: ignore[misc]


def first_tokens(segments: Segments) -> set[int]:
    return {int(token) for tokens, _ in segments.batches(4) for token in tokens[:, 0]}


def test_each_item_continues_the_one_a_stream_count_before() -> None:
    for count in (1, 5, 12, 13):
        for streams in (1, 3, 5):
            order = stream_order(count, min(streams, count)).tolist()
            assert sorted(order) == list(range(count))
            behind = min(streams, count)
            assert all(order[item] == order[item - behind] + 1 for item in range(behind, count))


def test_targets_are_the_next_tokens() -> None:
    segments = Segments(torch.arange(13), 4, torch.arange(3), 2)
    (tokens, targets), (last, _) = segments.batches(2)
    assert tokens.tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]
    assert torch.equal(targets, tokens + 1)
    assert last.tolist() == [[4, 5, 6, 7]]


def test_shuffled_batches_continue_the_batch_before() -> None:
    segments = Segments(torch.arange(101), 4, torch.arange(25), 2)
    batches = [tokens for tokens, _ in segments.shuffled(5, Generator().manual_seed(3))]
    assert sorted(torch.cat(batches)[:, 0].tolist()) == list(range(0, 100, 4))

    def follows(before: Tensor, after: Tensor) -> Tensor:
        return (after[:, 0] == before[: len(after), -1] + 1) | (after[:, 0] == 0)

    assert all(follows(*pair).all() for pair in pairwise(batches))


def test_splits_are_disjoint_and_calibration_begins_the_streams_of_train() -> None:
    splits = draw_segments(corpus(1001, 301, 201), LAYOUT, TaskOptions(calibration_images=12))
    sizes = {name: len(split) for name, split in splits.items()}
    assert sizes == {"train": 100, "calibration": 12, "search": 24, "selection": 6, "report": 20}
    assert first_tokens(splits["calibration"]) == {start + step for start in (0, 250, 500, 750) for step in (0, 10, 20)}
    assert not first_tokens(splits["search"]) & first_tokens(splits["selection"])
    order = splits["calibration"].order
    assert torch.equal(order, splits["train"].order[:12])


def test_one_stream_of_the_test_text_leaves_no_token_out() -> None:
    report = draw_segments(corpus(501, 101, 208), LAYOUT, TaskOptions())["report"]
    batches = list(report.batches(8))
    assert torch.equal(torch.cat([tokens.flatten() for tokens, _ in batches]), report.text[:-1])
    assert torch.equal(torch.cat([targets.flatten() for _, targets in batches]), report.text[1:])
    assert len(report) == 21
    assert report.facts()["tokens"] == 207


@pytest.mark.parametrize(
    ("layout", "options"),
    [
        (replace(LAYOUT, with_tail=False), TaskOptions()),
        (replace(LAYOUT, report_streams=2), TaskOptions()),
        (LAYOUT, TaskOptions(report_images=20)),
    ],
)
def test_other_report_splits_have_whole_segments(layout: Layout, options: TaskOptions) -> None:
    report = draw_segments(corpus(501, 101, 208), layout, options)["report"]
    assert [tokens.shape[1] for tokens, _ in report.batches(8)] == [10, 10, 10]


def test_the_seed_draws_another_part_of_valid() -> None:
    options = TaskOptions(search_images=10)
    first, other = (
        draw_segments(corpus(501, 501, 101), LAYOUT, each)
        for each in (options, TaskOptions(search_images=10, split_seed=1))
    )
    assert first_tokens(first["search"]) != first_tokens(other["search"])
    assert first_tokens(first["report"]) == first_tokens(other["report"])


def test_search_may_be_cut_off_from_train() -> None:
    splits = draw_segments(corpus(1001, 101, 101), LAYOUT, TaskOptions(search_from="train"))
    assert len(splits["search"]) + len(splits["selection"]) == 10
    drawn = first_tokens(splits["search"]) | first_tokens(splits["selection"])
    assert not drawn & first_tokens(splits["train"])
    assert not drawn & first_tokens(splits["calibration"])


def test_other_calibration_items_are_new_ones() -> None:
    train = Segments(torch.arange(101), 4, torch.arange(25), 3)
    calibration = beginning(train, 10)
    rest = without(train, calibration)
    assert rest is not None
    assert not first_tokens(beginning(rest, 10)) & first_tokens(calibration)
    assert without(train, train) is None
