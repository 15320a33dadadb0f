"""Journals: what is appended is read back, an unfinished last line is ignored, a damaged one is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from haq.errors import UserError
from haq.runs.episode import Episode, distinct
from haq.runs.journal import Journal
from haq.runs.records import Finite, StoredRecord


class Note(StoredRecord):
    number: int
    text: str = "none"
    value: Finite = 0.0


def notes(count: int) -> list[Note]:
    return [Note(number=number, text="né", value=0.1 + number / 3) for number in range(count)]


def written(path: Path, count: int) -> Journal[Note]:
    journal = Journal(path / "notes.jsonl", Note)
    for note in notes(count):
        journal.append(note)
    return journal


def test_a_missing_file_holds_no_records(tmp_path: Path) -> None:
    assert Journal(tmp_path / "notes.jsonl", Note).read(remedy="delete it") == []


def test_records_are_read_back_one_from_each_line(tmp_path: Path) -> None:
    journal = written(tmp_path, 3)
    assert journal.read(remedy="delete it") == notes(3)
    assert len(journal.path.read_text().splitlines()) == 3


def test_a_line_has_the_keys_that_were_given_in_the_order_of_the_fields(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "notes.jsonl", Note)
    journal.append(Note(value=1e-05, number=7))
    assert journal.path.read_text() == '{"number": 7, "value": 1e-05}\n'


@given(st.integers(0, 10**6))
def test_a_file_cut_anywhere_keeps_its_whole_lines(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    journal = Journal(tmp_path_factory.getbasetemp() / "notes.jsonl", Note)
    lines = [json.dumps(note.model_dump(mode="json"), ensure_ascii=False) + "\n" for note in notes(3)]
    content = "".join(lines).encode()
    cut %= len(content) + 1
    journal.path.write_bytes(content[:cut])
    whole = content[:cut].count(b"\n")
    assert journal.read(remedy="delete it") == notes(whole)
    journal.truncate()
    assert journal.path.read_bytes() == "".join(lines[:whole]).encode()
    journal.append(Note(number=whole))
    assert journal.read(remedy="delete it") == [*notes(whole), Note(number=whole)]


def test_truncating_leaves_the_kept_lines_byte_for_byte(tmp_path: Path) -> None:
    journal = written(tmp_path, 4)
    before = journal.path.read_bytes().splitlines(keepends=True)
    journal.truncate(2)
    assert journal.path.read_bytes() == b"".join(before[:2])
    journal.truncate(0)
    assert journal.path.read_bytes() == b""


@pytest.mark.parametrize("bad", [b"3", b"[1]", b"", b'{"number": NaN}', b"\xff", b'{"a":' * 50_000, b'{"text": "x"}'])
def test_line_in_the_middle_that_is_no_record_is_refused_with_its_number(bad: bytes, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "notes.jsonl", Note)
    journal.path.write_bytes(b'{"number": 0}\n' + bad + b'\n{"number": 2}\n')
    with pytest.raises(UserError, match=r"notes\.jsonl is damaged \(line 2: .*\); delete it$"):
        journal.read(remedy="delete it")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_not_finite_never_reach_the_file(value: float) -> None:
    with pytest.raises(ValidationError):
        Note(number=0, value=value)


EPISODE = {
    "episode": 0,
    "w_bits": [8, 4],
    "a_bits": [8, 3],
    "cost": 0.1,
    "accuracy": 0.9,
    "divergence": 0.01,
    "noise": 0.02,
    "reward": -1.0,
    "score": -0.02,
    "actor_loss": None,
    "critic_loss": None,
    "seconds": 1e-05,
}


@pytest.mark.parametrize("counts", [{}, {"lost": None, "won": None}, {"lost": 2, "won": 0}])
def test_an_episode_is_written_with_the_keys_that_were_read(counts: dict[str, int | None]) -> None:
    document = {**EPISODE, **counts}
    assert Episode.model_validate({**document, "unknown": 1}).model_dump(mode="json") == document


def test_the_bits_of_an_episode_are_an_array_of_layers() -> None:
    episode = Episode.model_validate(EPISODE)
    assert episode.bits.tolist() == [[8, 8], [4, 3]]
    assert episode.key == ((8, 4), (8, 3))


def test_of_equal_policies_the_first_is_kept() -> None:
    first, again = (Episode.model_validate({**EPISODE, "episode": number}) for number in (0, 1))
    other = Episode.model_validate({**EPISODE, "episode": 2, "w_bits": [8, 5]})
    assert list(distinct([first, again, other])) == [first, other]


def test_lines_are_counted_and_skipped_without_being_checked(tmp_path: Path) -> None:
    journal = written(tmp_path, 4)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"no record\n" + b"".join(lines[1:]) + b'{"number": ')
    assert journal.count() == 4
    assert list(journal.stream(remedy="delete it", first=1)) == notes(4)[1:]
    with pytest.raises(UserError, match=r"line 1: not a JSON object"):
        next(journal.stream(remedy="delete it"))
