"""What is kept of evaluations: exactly, by many processes at once, and nothing that is torn."""

import json
from concurrent.futures import ThreadPoolExecutor
from math import nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from haq.config import search_config
from haq.errors import UserError
from haq.evaluation.protocols import Evaluation
from haq.evaluation.store import EvaluationStore, KeptEvaluations
from haq.experiment.inputs import Inputs
from haq.policy import PolicyBits
from haq.searching.search import search_configured
from haq.tasks.classification import ClassificationTask

WIDTHS = st.sampled_from([*range(1, 9), None])
FINITE = st.floats(allow_nan=False, allow_infinity=False)
FIRST: PolicyBits = ((8, 2, None), (None, 4, 8))
OTHER: PolicyBits = ((8, 2, 1), (8, 4, 8))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "key.jsonl"


@given(widths=st.lists(st.tuples(WIDTHS, WIDTHS), min_size=1, max_size=9), accuracy=FINITE, divergence=FINITE)
def test_what_was_added_is_found_to_the_last_bit(
    tmp_path_factory: pytest.TempPathFactory,
    widths: list[tuple[int | None, int | None]],
    accuracy: float,
    divergence: float,
) -> None:
    bits = (tuple(w for w, _ in widths), tuple(a for _, a in widths))
    path = tmp_path_factory.mktemp("store") / "key.jsonl"
    KeptEvaluations(path).add(bits, Evaluation(accuracy, divergence, 0.125))
    found = KeptEvaluations(path).find(bits)
    assert found is not None
    assert (found.accuracy.hex(), found.divergence.hex()) == (accuracy.hex(), divergence.hex())


def test_nothing_is_known_at_first(path: Path) -> None:
    kept = KeptEvaluations(path)
    assert kept.find(FIRST) is None
    assert not path.exists()


def test_what_another_adds_meanwhile_is_found(path: Path) -> None:
    ours, theirs = KeptEvaluations(path), KeptEvaluations(path)
    ours.add(FIRST, Evaluation(0.5, 0.25, 0.125))
    assert theirs.find(FIRST) == Evaluation(0.5, 0.25, 0.125)
    ours.add(OTHER, Evaluation(0.75, 0.125, 0.125))
    assert theirs.find(OTHER) == Evaluation(0.75, 0.125, 0.125)


def test_a_torn_line_costs_nothing_but_itself(path: Path) -> None:
    KeptEvaluations(path).add(FIRST, Evaluation(0.5, 0.25, 0.125))
    path.write_bytes(path.read_bytes() + b'{"w": "821", "a": "848", "accura')
    KeptEvaluations(path).add(OTHER, Evaluation(0.75, 0.125, 0.125))
    kept = KeptEvaluations(path)
    assert (kept.find(FIRST), kept.find(OTHER)) == (Evaluation(0.5, 0.25, 0.125), Evaluation(0.75, 0.125, 0.125))


@pytest.mark.parametrize(
    "line",
    [
        b"\xff\xfe",
        b"[1, 2]",
        b"{}",
        b'{"w": "9", "a": "8", "accuracy": 0.5, "divergence": 0.5}',
        b'{"w": 8, "a": "8", "accuracy": 0.5, "divergence": 0.5}',
        b'{"w": "88", "a": "8", "accuracy": 0.5, "divergence": 0.5}',
        b'{"w": "8", "a": "8", "accuracy": NaN, "divergence": 0.5}',
        b'{"w": "8", "a": "8", "accuracy": 0.5, "divergence": "0.5"}',
        b'{"w": "8", "a": "8", "accuracy": true, "divergence": 0.5}',
    ],
)
def test_lines_that_say_something_else_are_passed_over(path: Path, line: bytes) -> None:
    path.write_bytes(line + b"\n")
    kept = KeptEvaluations(path)
    assert kept.find(((8,), (8,))) is None
    kept.add(((8,), (8,)), Evaluation(0.5, 0.25, 0.125))
    assert KeptEvaluations(path).find(((8,), (8,))) == Evaluation(0.5, 0.25, 0.125)


def test_what_is_not_finite_is_not_kept(path: Path) -> None:
    KeptEvaluations(path).add(FIRST, Evaluation(0.5, nan, 0.125))
    assert not path.exists()


def _add_many(path: Path, first: int) -> None:
    kept = KeptEvaluations(path)
    for number in range(first, first + 200):
        kept.add(_numbered(number), Evaluation(number / 7, number / 3, 0.125))


def _numbered(number: int) -> PolicyBits:
    bits = tuple(number // 8**place % 8 + 1 for place in range(3))
    return bits, bits


def test_many_may_add_at_once(path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(_add_many, [path, path], [0, 200]))
    kept = KeptEvaluations(path)
    assert all(kept.find(_numbered(number)) == Evaluation(number / 7, number / 3, 0.125) for number in range(400))
    # A line that is being written may look torn to the other thread, which then ends it: with an empty line.
    assert sum(bool(line) for line in path.read_bytes().splitlines()) == 400


def test_keys_have_files_of_their_own(tmp_path: Path) -> None:
    store = EvaluationStore(tmp_path / "new" / "folder")
    store.open("one").add(FIRST, Evaluation(0.5, 0.25, 0.125))
    assert store.open("other").find(FIRST) is None
    assert store.open("one").find(FIRST) is not None


def test_a_folder_that_cannot_be_used_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot keep evaluations in .*file \(.*\); set HAQ_CACHE to a folder"):
        EvaluationStore(tmp_path / "file").open("key")


def test_the_cache_is_where_evaluations_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path))
    assert EvaluationStore().folder == tmp_path / "evaluations"


def _without_seconds(path: Path) -> list[dict[str, Any]]:
    """Every JSON object of a run's file, but for what may differ."""
    objects = [json.loads(line) for line in path.read_text().splitlines()]
    return [{key: value for key, value in each.items() if not key.endswith("seconds")} for each in objects]


@pytest.mark.parametrize("agent", ["random", "ddpg"])
def test_a_search_is_the_same_whatever_is_kept(
    tiny_net: nn.Module, tiny_task: ClassificationTask, tmp_path: Path, agent: str
) -> None:
    config = search_config(model="TinyNet", data="blobs", agent=agent, episodes=24, first_last_bits=None)
    stores = {"none": None, "cold": EvaluationStore(tmp_path / "kept"), "warm": EvaluationStore(tmp_path / "kept")}
    for name, store in stores.items():
        inputs = Inputs(tiny_net, tiny_task, store=store)
        search_configured(config, tmp_path / name, inputs=inputs)
    for name in ("cold", "warm"):
        for file in ("policy.json", "quantizers.safetensors", "config.json"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "none" / file).read_bytes()
        journals = [_without_seconds(tmp_path / each / "episodes.jsonl") for each in (name, "none")]
        assert journals[0] == journals[1]
        ours, theirs = (json.loads((tmp_path / each / "summary.json").read_text()) for each in (name, "none"))
        assert {**ours, "seconds": 0} == {**theirs, "seconds": 0}
