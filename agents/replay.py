"""The episodes that an agent remembers, as tables to draw batches of steps from."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Generator, Tensor

from agents.base import Transition


class Steps(NamedTuple):
    """Steps of episodes, one a row; every column is float32 and two-dimensional."""

    inputs: Tensor
    """[step, observation_size + 1]: the observation and, last, the action: what a critic reads."""
    returns: Tensor
    """[step, 1]: the sum of all rewards of the step's episode."""
    next_observations: Tensor
    """[step, observation_size]"""
    continues: Tensor
    """[step, 1]: 0 where the episode ended, else 1."""

    @property
    def observations(self) -> Tensor:
        """[step, observation_size]"""
        return self.inputs[:, :-1]

    @classmethod
    def from_episode(cls, transitions: Sequence[Transition]) -> Self:
        """The steps of one episode, each with the whole episode's return."""
        rewards = [transition.reward for transition in transitions]
        observations = torch.stack([torch.as_tensor(t.observation, dtype=torch.float32) for t in transitions])
        return cls(
            inputs=torch.cat((observations, torch.tensor([[t.action] for t in transitions])), dim=1),
            returns=torch.full((len(transitions), 1), sum(rewards)),
            next_observations=torch.stack(
                [torch.as_tensor(t.next_observation, dtype=torch.float32) for t in transitions]
            ),
            continues=torch.tensor([[float(not t.terminated)] for t in transitions]),
        )

    def sample(self, size: int, generator: Generator) -> "Steps":
        """A batch of steps, uniformly and with replacement."""
        index = torch.randint(len(self.inputs), (size,), generator=generator)
        return Steps(*(column[index] for column in self))


class Replay:
    """The last `capacity` episodes, oldest first; the length of an episode may vary."""

    def __init__(self, capacity: int) -> None:
        self._episodes: deque[Steps] = deque(maxlen=capacity)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    def add(self, episode: Steps) -> None:
        """Remember an episode; forgets the oldest one when full."""
        self._episodes.append(episode)

    def steps(self) -> Steps:
        """All remembered steps in one table."""
        return Steps(*(torch.cat(column) for column in zip(*self._episodes, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """The table of every remembered episode."""
        return {"episodes": [episode._asdict() for episode in self._episodes]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Remember what was remembered where `state_dict` was taken, and nothing else."""
        self._episodes.clear()
        self._episodes.extend(Steps(**columns) for columns in state["episodes"])
