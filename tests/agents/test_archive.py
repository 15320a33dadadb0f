import numpy as np
import pytest

from agents.archive import Archive

CHEAP, DEARER, TOO_DEAR = (np.full((4, 2), width) for width in (2, 3, 5))


@pytest.fixture
def archive(make_space) -> Archive:
    return Archive(make_space())


def test_a_proposal_is_known_but_has_no_rank(archive):
    archive.add_pending(CHEAP)
    assert CHEAP in archive
    assert archive.top(1) == []
    assert (archive.best == CHEAP).all()


def test_best_first_and_of_equals_the_older(archive):
    third = CHEAP + np.eye(4, 2, dtype=np.int64)
    for bits, score in ((CHEAP, 0.5), (DEARER, 0.9), (third, 0.9)):
        assert archive.record(bits, score)
    assert [bits.tolist() for bits in archive.top(5)] == [bits.tolist() for bits in (DEARER, third, CHEAP)]


def test_the_first_score_counts(archive):
    assert archive.record(CHEAP, 0.5)
    assert archive.record(DEARER, 0.6)
    assert not archive.record(CHEAP, 0.7)
    assert (archive.best == DEARER).all()


def test_what_the_space_forbids_is_passed_over(archive):
    assert not archive.record(TOO_DEAR, 1.0)
    assert not archive.record(CHEAP - 1, 1.0)
    assert len(archive) == 0
