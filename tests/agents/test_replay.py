import numpy as np
import torch

from agents.base import Transition
from agents.replay import Replay, Steps


def episode(mark: float, *, length: int = 2) -> Steps:
    def observed(step: int) -> np.ndarray:
        return np.array([mark, step], dtype=np.float32)

    return Steps.from_episode(
        [
            Transition(
                observed(step), 0.25, mark if step == length - 1 else 0.0, observed(step + 1), step == length - 1
            )
            for step in range(length)
        ]
    )


def test_every_step_has_return_of_its_episode():
    steps = episode(7.0, length=3)
    assert steps.inputs.tolist() == [[7, 0, 0.25], [7, 1, 0.25], [7, 2, 0.25]]
    assert steps.observations.tolist() == [[7, 0], [7, 1], [7, 2]]
    assert steps.next_observations.tolist() == [[7, 1], [7, 2], [7, 3]]
    assert steps.returns.tolist() == [[7], [7], [7]]
    assert steps.continues.tolist() == [[1], [1], [0]]


def test_full_replay_drops_oldest_episode():
    replay = Replay(capacity=2)
    for mark in (1.0, 2.0, 3.0):
        replay.add(episode(mark))
    assert len(replay) == 2
    assert replay.steps().returns.flatten().tolist() == [2, 2, 3, 3]


def test_episodes_may_differ_in_length():
    replay = Replay(capacity=2)
    for mark, length in ((1.0, 4), (2.0, 1), (3.0, 2)):
        replay.add(episode(mark, length=length))
    assert replay.steps().returns.flatten().tolist() == [2, 3, 3]


def test_batch_is_uniform_and_keeps_rows_together():
    replay = Replay(capacity=4)
    for mark in range(4):
        replay.add(episode(float(mark)))
    batch = replay.steps().sample(4000, torch.Generator().manual_seed(0))
    assert torch.equal(batch.returns[:, 0], batch.inputs[:, 0])
    counts = torch.bincount(batch.returns.flatten().long())
    # 1000 expected of each; 4.5 standard deviations of the binomial distribution, sqrt(4000 * 1/4 * 3/4) = 27.4.
    assert ((counts - 1000).abs() < 123).all()


def test_state_round_trip_keeps_order_and_capacity():
    replay, restored = Replay(capacity=2), Replay(capacity=2)
    for mark in (1.0, 2.0):
        replay.add(episode(mark))
    restored.add(episode(9.0))
    restored.load_state_dict(replay.state_dict())
    restored.add(episode(3.0))
    assert restored.steps().returns.flatten().tolist() == [2, 2, 3, 3]
