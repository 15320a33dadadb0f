import numpy as np
import pytest

from agents.archive import Archive

CHEAP, DEARER, TOO_DEAR = (np.full((4, 2), width) for width in (2, 3, 5))


@pytest.fixture
def archive(make_space) -> Archive:
    return Archive(make_space())


def test_pending_policy_is_contained_but_not_ranked(archive):
    archive.add_pending(CHEAP)
    assert CHEAP in archive
    assert archive.top(1) == []
    assert (archive.best == CHEAP).all()


def test_top_sorts_by_score_then_age(archive):
    third = CHEAP + np.eye(4, 2, dtype=np.int64)
    for bits, score in ((CHEAP, 0.5), (DEARER, 0.9), (third, 0.9)):
        assert archive.record(bits, score)
    assert [bits.tolist() for bits in archive.top(5)] == [bits.tolist() for bits in (DEARER, third, CHEAP)]


def test_recording_again_keeps_first_score(archive):
    assert archive.record(CHEAP, 0.5)
    assert archive.record(DEARER, 0.6)
    assert not archive.record(CHEAP, 0.7)
    assert (archive.best == DEARER).all()


def test_illegal_policies_are_ignored(archive):
    assert not archive.record(TOO_DEAR, 1.0)
    assert not archive.record(CHEAP - 1, 1.0)
    assert len(archive) == 0
