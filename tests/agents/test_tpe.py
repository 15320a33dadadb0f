import sys

import numpy as np
import pytest

from agents import TPE
from agents.greedy import greedy_policy

optuna = pytest.importorskip("optuna")


def test_missing_optuna_names_extra(make_space, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"\[tpe\]"):
        TPE(make_space())


def test_first_proposal_is_greedy_policy(make_space):
    space = make_space()
    assert (TPE(space).propose() == greedy_policy(space)).all()


def test_tpe_prefers_bits_that_improve_score(make_space):
    """After 30 trials the first decision, which alone counts, has more bits than in random policies."""
    space = make_space((1.0,) * 6, ratios=(1.0, 0.6))
    proposer, late = TPE(space, seed=0), []
    for turn in range(45):
        bits = proposer.propose()
        proposer.tell(bits, float(bits[0, 0] - bits[1, 0]))
        late += [bits[0, 0] - bits[1, 0]] if turn >= 30 else []
    generator = np.random.default_rng(0)
    chance = [float(bits[0, 0] - bits[1, 0]) for bits in (space.sample(generator) for _ in range(100))]
    assert np.mean(late) > np.mean(chance) + 1


def test_optuna_log_level_is_unchanged(make_space, capfd):
    before = optuna.logging.get_verbosity()
    TPE(make_space()).propose()
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")
