"""Replay buffer of episodes."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self

import torch
from torch import Generator, Tensor

from agents.base import Transition


class Steps(NamedTuple):
    """Steps of episodes, one per row; every column is float32 and two-dimensional."""

    inputs: Tensor
    """[step, observation_size + 1]: observation and action, the input of a critic."""
    returns: Tensor
    """[step, 1]: sum of all rewards of the step's episode."""
    next_observations: Tensor
    """[step, observation_size]"""
    continues: Tensor
    """[step, 1]: 0 where the episode ended, else 1."""

    @property
    def observations(self) -> Tensor:
        """Observations [step, observation_size]."""
        return self.inputs[:, :-1]

    @classmethod
    def from_episode(cls, transitions: Sequence[Transition]) -> Self:
        """Create the steps of one episode.

        Args:
            transitions: The episode.

        Returns:
            Its steps, each with the return of the whole episode.
        """
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
        """Sample a batch of steps uniformly with replacement.

        Args:
            size: Number of steps.
            generator: Source of random numbers.

        Returns:
            The batch.
        """
        index = torch.randint(len(self.inputs), (size,), generator=generator)
        return Steps(*(column[index] for column in self))


class Replay:
    """Buffer of the last `capacity` episodes, oldest first; episodes may differ in length.

    Args:
        capacity: Maximum number of episodes.
    """

    def __init__(self, capacity: int) -> None:
        self._episodes: deque[Steps] = deque(maxlen=capacity)

    def __len__(self) -> int:
        """Number of episodes."""
        return len(self._episodes)

    def add(self, episode: Steps) -> None:
        """Append an episode; drops the oldest one if the buffer is full.

        Args:
            episode: Steps of the episode.
        """
        self._episodes.append(episode)

    def steps(self) -> Steps:
        """Concatenate the steps of all episodes."""
        return Steps(*(torch.cat(column) for column in zip(*self._episodes, strict=True)))

    def state_dict(self) -> dict[str, Any]:
        """Return the steps of every episode."""
        return {"episodes": [episode._asdict() for episode in self._episodes]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replace the contents by a state returned by `state_dict`."""
        self._episodes.clear()
        self._episodes.extend(Steps(**columns) for columns in state["episodes"])
