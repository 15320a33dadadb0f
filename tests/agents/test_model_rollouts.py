"""Training of an actor on simulated rollouts."""

import numpy as np
import torch

from agents import DDPGConfig, Rollout
from agents.model_rollouts import ModelRollouts


class ThreeSteps:
    """Three decisions whose weights alone are chosen, 2 to 8 bits; everything is legal."""

    observation_size = 1

    def rollout(self, act):
        actions = [act(np.array([step], dtype=np.float32)) for step in range(3)]
        return self.rollout_of(np.array([[round(2 + 6 * action), 8] for action in actions]))

    def rollout_of(self, bits):
        actions = (bits[:, 0] - 2).astype(np.float32) / 6
        return Rollout(bits, np.arange(3, dtype=np.float32)[:, None], actions)


def distance(policies: np.ndarray) -> np.ndarray:
    """Distance to five bits everywhere, the best policy."""
    return np.abs(policies[:, :, 0] - 5.0).sum(axis=1)


def make(seed: int = 0, **settings) -> ModelRollouts:
    config = DDPGConfig(**{"sigma_decay": 0.97, "replay_episodes": 64} | settings)
    return ModelRollouts(ThreeSteps(), config, torch.Generator().manual_seed(seed))


def train(rollouts: ModelRollouts, episodes: int) -> np.ndarray:
    policies = []
    for _ in range(episodes):
        policies.append(rollouts.rollout())
        rollouts.learn(distance, 8)
    return np.stack(policies)


def test_actor_learns_policies_of_low_loss():
    policies = train(make(), 150)
    assert distance(policies[-30:]).mean() < 0.6 * distance(policies[:30]).mean()


def test_actor_learns_from_added_policies():
    """The actor learns from added policies only, before any rollout of its own."""
    rollouts = make()
    rollouts.add(np.array([[[w, 8]] * 3 for w in (2, 3, 4, 5, 6, 7, 8)]))
    for _ in range(60):
        rollouts.learn(distance, 8)
    policies = np.stack([rollouts.rollout() for _ in range(40)])
    assert distance(policies).mean() < distance(np.stack([make(1).rollout() for _ in range(40)])).mean()


def test_learning_without_rollouts_changes_nothing():
    rollouts = make()
    before = rollouts.state_dict()["actor"]["parameters"]
    rollouts.learn(distance, 5)
    assert torch.equal(rollouts.state_dict()["actor"]["parameters"], before)
