import numpy as np
import pytest

from agents import Greedy
from agents.greedy import greedy_policy


def priced(*sensitivities: float) -> np.ndarray:
    """A loss for each missing bit of weights; activations are free."""
    missing = 8.0 - np.arange(1, 9)
    return np.array(sensitivities)[:, None, None] * np.broadcast_to(missing[:, None], (8, 8))


def test_greedy_policy_lowers_least_sensitive_decision(make_space):
    """Sizes 1 and 1, weights only: 10 bits have to become 7; bits of the second decision are worth a tenth."""
    space = make_space((1.0, 1.0), ratios=(1.0, 0.7), prior=priced(1.0, 0.1))
    assert greedy_policy(space)[:, 0].tolist() == [5, 2]


def test_greedy_policy_weighs_loss_by_cost_saved(make_space):
    """A bit of the first decision loses twice as much but saves four times as much."""
    space = make_space((4.0, 1.0), ratios=(1.0, 0.85), prior=priced(2.0, 1.0))
    assert greedy_policy(space)[:, 0].tolist() == [4, 5]


def test_greedy_policy_treats_equal_decisions_equally(make_space):
    space = make_space((1.0, 1.0, 1.0), ratios=(1.0, 0.8), prior=priced(1.0, 1.0, 1.0))
    assert greedy_policy(space)[:, 0].tolist() == [4, 4, 4]


def test_first_proposal_is_greedy_policy(make_space):
    space = make_space()
    assert (Greedy(space).propose() == greedy_policy(space)).all()


def test_greedy_policy_is_proposed_first_after_foreign_scores(make_space):
    space = make_space()
    proposer = Greedy(space)
    poor = np.ones_like(greedy_policy(space)) * 2
    proposer.tell(poor, -1.0)
    assert (proposer.propose() == greedy_policy(space)).all()


def test_hill_climbing_corrects_wrong_prior(make_space):
    """The last decision matters most under the prior, the first one in the scores."""
    space = make_space((1.0, 1.0, 1.0), ratios=(1.0, 0.7), prior=priced(0.1, 0.5, 1.0))
    proposer, scores = Greedy(space), []
    for _ in range(60):
        bits = proposer.propose()
        scores.append(float(bits[:, 0] @ [1.0, 0.5, 0.1]))
        proposer.tell(bits, scores[-1])
    # 10 bits of weights, from 2 to 5 each: 5, 3 and 2 at best.
    assert scores[0] < max(scores) - 0.05
    assert max(scores) == pytest.approx(5 + 0.5 * 3 + 0.1 * 2)


def test_exchanges_stay_near_best_policy(make_space):
    space = make_space()
    proposer = Greedy(space)
    centre = proposer.propose()
    proposer.tell(centre, 1.0)
    for _ in range(5):
        bits = proposer.propose()
        assert (bits != centre).any()
        proposer.tell(bits, 0.0)
