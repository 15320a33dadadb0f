import hashlib
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from haq.errors import UserError
from haq.tasks.options import TaskOptions
from haq.tasks.splits import Drawn, Pool, balanced_order, draw_splits


def pool(name: str, labels: list[int]) -> Pool:
    return Pool.of_classes([f"{name}{index}" for index in range(len(labels))], np.array(labels), torch.tensor)


TRAIN, VAL = pool("train", [0, 1, 2, 3] * 25), pool("val", [0, 1] * 50)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(0, 2**32))
def test_every_prefix_has_classes_in_proportion(labels: list[int], seed: int) -> None:
    array = np.array(labels)
    order = balanced_order(array, np.random.default_rng(seed))
    assert sorted(order) == list(range(len(labels)))
    for size in range(1, len(labels) + 1):
        for label in set(labels):
            share = size * labels.count(label) / len(labels)
            # One item of rounding in each of the classes that are interleaved.
            assert abs(np.sum(array[order[:size]] == label) - share) < 1 + len(set(labels))


def test_classes_of_equal_size_alternate() -> None:
    order = balanced_order(TRAIN.labels, np.random.default_rng(3))
    assert all(sorted(TRAIN.labels[order[start : start + 4]]) == [0, 1, 2, 3] for start in range(0, 100, 4))


def keys(name: str, options: TaskOptions) -> list[str]:
    drawn = draw_splits(TRAIN, VAL, options)[name]  # type: ignore[index]
    return [drawn.pool.keys[index] for index in drawn.indices]


def test_default_and_given_sizes() -> None:
    sizes = {name: len(drawn) for name, drawn in draw_splits(TRAIN, VAL, TaskOptions()).items()}
    assert sizes == {"train": 100, "calibration": 100, "search": 32, "selection": 8, "report": 60}
    wished = TaskOptions(calibration_images=7, search_images=10, report_images=20)
    sizes = {name: len(drawn) for name, drawn in draw_splits(TRAIN, VAL, wished).items()}
    assert sizes == {"train": 100, "calibration": 7, "search": 8, "selection": 2, "report": 20}


@pytest.mark.parametrize("source", ["val", "train"])
def test_splits_are_disjoint_except_calibration_in_train(source: str) -> None:
    options = TaskOptions(search_from=source, search_images=30, calibration_images=50)  # type: ignore[arg-type]
    names = ("train", "calibration", "search", "selection", "report")
    train, calibration, *others = (set(keys(name, options)) for name in names)
    search, selection, report = others
    assert all(not one & other for one, other in combinations([train, *others], 2))
    assert calibration < train
    assert all(key.startswith(source) for key in search | selection)
    assert all(key.startswith("val") for key in report)


def test_selection_is_last_fifth_of_search_items() -> None:
    sizes = {}
    for count in (1, 4, 5, 9, 10, 99):
        drawn = draw_splits(TRAIN, VAL, TaskOptions(search_images=count))
        sizes[count] = len(drawn["search"]), len(drawn.get("selection", ()))
    assert sizes == {1: (1, 0), 4: (4, 0), 5: (4, 1), 9: (8, 1), 10: (8, 2), 99: (80, 19)}
    assert "selection" not in draw_splits(TRAIN, VAL, TaskOptions(search_images=4))
    before = balanced_order(VAL.labels, _after_train())[:40]
    drawn = draw_splits(TRAIN, VAL, TaskOptions(search_images=40))
    assert [*drawn["search"].indices, *drawn["selection"].indices] == before.tolist()


def _after_train() -> np.random.Generator:
    generator = np.random.default_rng(0)
    balanced_order(TRAIN.labels, generator)
    return generator


def test_splits_depend_on_seed_only() -> None:
    for name in ("train", "calibration", "search", "selection", "report"):
        assert keys(name, TaskOptions(split_seed=5)) == keys(name, TaskOptions(split_seed=5))
        assert keys(name, TaskOptions(split_seed=5)) != keys(name, TaskOptions(split_seed=6))


def test_facts_differ_between_splits() -> None:
    first, again, other = (
        draw_splits(TRAIN, VAL, TaskOptions(split_seed=seed))["search"].facts() for seed in (0, 0, 1)
    )
    assert first == again
    assert first["size"] == 32
    assert first["sha256"] != other["sha256"]


@pytest.mark.parametrize("options", [{"search_images": 101}, {"search_images": 100}, {"report_images": 61}])
def test_too_few_items_raise(options: dict[str, int]) -> None:
    with pytest.raises(UserError, match=r"images asked of val, which has (100|60|0) left|0 images asked"):
        draw_splits(TRAIN, VAL, TaskOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [{"split_seed": -1}, {"search_images": 0}, {"crop": -3}, {"normalize": "full"}, {"search_from": "report"}],
)
def test_invalid_options_raise(options: dict[str, object]) -> None:
    (name, value), *_ = options.items()
    with pytest.raises(UserError, match=f"{name} is '?{value}"):
        TaskOptions(**options)  # type: ignore[arg-type]


def test_items_of_a_split_are_read_at_their_indices() -> None:
    drawn = Drawn(pool("val", [0, 1] * 5), np.array([7, 2]))
    assert [(input_.item(), target) for input_, target in (drawn[0], drawn[1])] == [(7, 1), (2, 0)]
    # The hash is of the names in the order of the split, a line each.
    assert drawn.facts() == {"size": 2, "sha256": hashlib.sha256(b"val7\nval2").hexdigest()}


def test_calibration_and_report_are_the_first_of_what_is_left() -> None:
    val, options = balanced_order(VAL.labels, _after_train()), TaskOptions(calibration_images=7, report_images=20)
    drawn = draw_splits(TRAIN, VAL, options)
    train = balanced_order(TRAIN.labels, np.random.default_rng(0))
    assert drawn["train"].indices.tolist() == train.tolist()
    assert drawn["calibration"].indices.tolist() == train[:7].tolist()
    assert drawn["report"].indices.tolist() == val[40:60].tolist()


def test_search_from_train_takes_the_first_of_train() -> None:
    drawn = draw_splits(TRAIN, VAL, TaskOptions(search_from="train", search_images=10))
    train = balanced_order(TRAIN.labels, np.random.default_rng(0)).tolist()
    assert [*drawn["search"].indices, *drawn["selection"].indices] == train[:10]
    assert drawn["train"].indices.tolist() == train[10:]
    assert drawn["report"].indices.tolist() == balanced_order(VAL.labels, _after_train()).tolist()


@pytest.mark.parametrize(("available", "drawn"), [(2, 1), (9, 3), (10, 4), (2500, 1000), (2600, 1000)])
def test_default_search_is_two_fifths_of_at_most_1000_items(available: int, drawn: int) -> None:
    many = pool("many", [0] * available)
    splits = draw_splits(many, VAL, TaskOptions(search_from="train"))
    assert len(splits["search"]) + len(splits.get("selection", ())) == drawn
