"""The actor learns what a model expects, without any evaluation."""

import numpy as np
import torch

from agents import DDPGConfig, Rollout
from agents.imagination import Imagination


class ThreeSteps:
    """Three decisions whose weights alone are chosen, 2 to 8 bits; everything is legal."""

    observation_size = 1

    def walk(self, act):
        actions = [act(np.array([step], dtype=np.float32)) for step in range(3)]
        return self.retrace(np.array([[round(2 + 6 * action), 8] for action in actions]))

    def retrace(self, bits):
        actions = (bits[:, 0] - 2).astype(np.float32) / 6
        return Rollout(bits, np.arange(3, dtype=np.float32)[:, None], actions)


def distance(policies: np.ndarray) -> np.ndarray:
    """Five bits everywhere are best."""
    return np.abs(policies[:, :, 0] - 5.0).sum(axis=1)


def imagine(seed: int = 0, **settings) -> Imagination:
    config = DDPGConfig(**{"sigma_decay": 0.97, "replay_episodes": 64} | settings)
    return Imagination(ThreeSteps(), config, torch.Generator().manual_seed(seed))


def train(imagination: Imagination, episodes: int) -> np.ndarray:
    walks = []
    for _ in range(episodes):
        walks.append(imagination.walk())
        imagination.learn(distance, 8)
    return np.stack(walks)


def test_the_actor_comes_to_walk_where_little_is_lost():
    walks = train(imagine(), 150)
    assert distance(walks[-30:]).mean() < 0.6 * distance(walks[:30]).mean()


def test_policies_of_others_are_learned_from():
    """Only policies near the best and bad ones are shown; the actor has walked nowhere before."""
    imagination = imagine()
    imagination.retrace(np.array([[[w, 8]] * 3 for w in (2, 3, 4, 5, 6, 7, 8)]))
    for _ in range(60):
        imagination.learn(distance, 8)
    walks = np.stack([imagination.walk() for _ in range(40)])
    assert distance(walks).mean() < distance(np.stack([imagine(1).walk() for _ in range(40)])).mean()


def test_without_memories_there_is_nothing_to_learn():
    imagination = imagine()
    before = imagination.state_dict()["actor"]["parameters"]
    imagination.learn(distance, 5)
    assert torch.equal(imagination.state_dict()["actor"]["parameters"], before)
