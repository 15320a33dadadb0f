"""Reward functions."""

import pytest

from envs.reward import accuracy_reward, fidelity_reward


def test_accuracy_reward_is_a_tenth_of_percentage_points() -> None:
    assert accuracy_reward(0.7)(0.65) == pytest.approx(-0.5)
    assert accuracy_reward(0.7)(0.71) == pytest.approx(0.1)
    assert accuracy_reward(0.7, scale=1.0)(0.69) == pytest.approx(-1.0)


def test_fidelity_reward_decreases_with_error() -> None:
    assert fidelity_reward(0.0) == 0
    assert fidelity_reward(0.2) > fidelity_reward(0.3)
