import numpy as np

from agents import Uniform
from agents.uniform import uniform_policies


def test_uniform_policies_start_with_largest_fitting_one(make_space):
    """Sizes 10 in sum; 5 x 5 bits cost 250, the budget is 125: 3 x 4 bits fit, 4 x 4 do not."""
    order = [bits[0].tolist() for bits in uniform_policies(make_space())]
    assert order[:2] == [[3, 4], [4, 3]]
    fitting = [[w, a] for w in (2, 3, 4, 5) for a in (2, 3, 4, 5) if w * a <= 12.5]
    assert sorted(order[: len(fitting)]) == fitting
    assert sorted(order[len(fitting) :]) == [[3, 5], [4, 4], [4, 5], [5, 3], [5, 4], [5, 5]]
    assert order[-1] == [5, 5]


def test_pinned_decisions_keep_their_bits(make_space):
    policies = list(uniform_policies(make_space(pinned=True, ratios=(0.85,))))
    assert all(bits[-1].tolist() == [8, 8] for bits in policies)


def test_first_proposal_spends_remaining_budget(make_space):
    space = make_space()
    assert (Uniform(space).propose() >= [3, 4]).all()


def test_proposals_are_distinct_until_exhausted(make_space):
    proposer = Uniform(make_space())
    policies = [proposer.propose() for _ in range(60)]
    assert len(np.unique(np.stack(policies), axis=0)) == 60
