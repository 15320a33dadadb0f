import numpy as np
import pytest

from agents.archive import Archive, best_and_latest

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


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_raise(archive, score):
    with pytest.raises(ValueError, match="must be finite"):
        archive.record(CHEAP, score)
    assert CHEAP not in archive


def test_pending_policy_keeps_its_age_when_it_is_scored(archive):
    archive.add_pending(DEARER)
    assert archive.record(CHEAP, 0.5)
    assert archive.record(DEARER, 0.5)
    assert not archive.record(DEARER, 0.9)
    assert [bits.tolist() for bits in archive.top(2)] == [DEARER.tolist(), CHEAP.tolist()]
    assert [bits.tolist() for bits in archive.top(1)] == [DEARER.tolist()]
    assert len(archive) == 2


def test_scored_policy_stays_scored_when_it_is_proposed_again(archive):
    archive.record(CHEAP, 0.5)
    archive.add_pending(CHEAP)
    assert [bits.tolist() for bits in archive.top(2)] == [CHEAP.tolist()]
    assert archive.state_dict()["scores"].tolist() == [0.5]


def test_best_without_scores_is_the_oldest(archive):
    archive.add_pending(DEARER)
    archive.add_pending(CHEAP)
    assert (archive.best == DEARER).all()
    assert [bits.tolist() for bits in archive.policies] == [DEARER.tolist(), CHEAP.tolist()]


def test_returned_and_given_policies_are_copies(archive):
    given = CHEAP.copy()
    archive.record(given, 0.5)
    given[:] = 9
    archive.policies[0][:] = 9
    archive.top(1)[0][:] = 9
    assert archive.policies[0].tolist() == archive.top(1)[0].tolist() == CHEAP.tolist()


def test_loaded_state_replaces_the_contents(archive, make_space):
    archive.record(CHEAP, 0.25)
    archive.add_pending(DEARER)
    other = Archive(make_space())
    other.record(CHEAP + np.eye(4, 2, dtype=np.int64), 0.9)
    other.load_state_dict(archive.state_dict())
    assert [bits.tolist() for bits in other.policies] == [CHEAP.tolist(), DEARER.tolist()]
    assert [bits.tolist() for bits in other.top(5)] == [CHEAP.tolist()]
    assert other.record(DEARER, 0.25)
    assert [bits.tolist() for bits in other.top(5)] == [CHEAP.tolist(), DEARER.tolist()]


def test_oldest_of_equal_losses_are_kept():
    losses = np.tile([1.0, 0.0], 40)
    assert best_and_latest(losses, 20).tolist() == [*range(1, 20, 2), *range(70, 80)]


def test_state_with_a_missing_score_raises(archive):
    archive.record(CHEAP, 0.5)
    state = archive.state_dict()
    state["scores"] = state["scores"][:0]
    with pytest.raises(ValueError, match="zip"):
        archive.load_state_dict(state)
