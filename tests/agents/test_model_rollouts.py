"""The actor learns what a model expects, without any evaluation."""

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
    """Five bits everywhere are best."""
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


def test_the_actor_comes_to_walk_where_little_is_lost():
    policies = train(make(), 150)
    assert distance(policies[-30:]).mean() < 0.6 * distance(policies[:30]).mean()


def test_policies_of_others_are_learned_from():
    """Only policies near the best and bad ones are shown; the actor has walked nowhere before."""
    rollouts = make()
    rollouts.add(np.array([[[w, 8]] * 3 for w in (2, 3, 4, 5, 6, 7, 8)]))
    for _ in range(60):
        rollouts.learn(distance, 8)
    policies = np.stack([rollouts.rollout() for _ in range(40)])
    assert distance(policies).mean() < distance(np.stack([make(1).rollout() for _ in range(40)])).mean()


def test_without_memories_there_is_nothing_to_learn():
    rollouts = make()
    before = rollouts.state_dict()["actor"]["parameters"]
    rollouts.learn(distance, 5)
    assert torch.equal(rollouts.state_dict()["actor"]["parameters"], before)
