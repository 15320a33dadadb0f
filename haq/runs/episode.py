"""Record of an episode: one line of `episodes.jsonl`."""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from haq.errors import MAX_MESSAGE
from haq.layer_bits import Width
from haq.runs.records import Amount, Count, Finite, StoredRecord


class Episode(StoredRecord):
    """Policy that a search tried, with its cost and its results on the search split.

    `cost` is in the SI unit of the search's objective. `accuracy` is the task's score, `reward` the reward of the
    paper, computed from the accuracy, and `score` the reward that the search method received.
    """

    episode: Count
    """Number of the episode, from 0."""
    w_bits: tuple[Width, ...]
    """Bits of the weights [layer]."""
    a_bits: tuple[Width, ...]
    """Bits of the input activations [layer]."""
    cost: Amount
    accuracy: Finite
    divergence: Finite
    """Mean KL divergence, in nats, of the quantized network's outputs from the float network's."""
    noise: Amount
    """Relative output error, 1/SQNR: power of the outputs' quantization error over the power of the float outputs."""
    reward: Finite
    score: Finite
    actor_loss: Finite | None
    critic_loss: Finite | None
    lost: Count | None = None
    """Number of images that only the float network classifies right. Present, like `won`, in a search with a required
    confidence; None there for a policy that loses too much accuracy."""
    won: Count | None = None
    """Number of images that only the policy classifies right."""
    failure: Annotated[str, Field(max_length=MAX_MESSAGE)] | None = None
    """Reason why the policy could not be evaluated; present only then. The numbers stand for a very bad policy."""
    seconds: Amount | None = None
    """Duration of the episode in seconds."""

    @property
    def values(self) -> dict[str, float]:
        """Cost, results and losses by name, without those that are None."""
        names = ("accuracy", "divergence", "noise", "cost", "reward", "score", "actor_loss", "critic_loss")
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def bits(self) -> NDArray[np.int64]:
        """Bits [layer, 2] of weights and inputs."""
        return np.array([self.w_bits, self.a_bits], dtype=np.int64).T

    @property
    def key(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Bits as (w_bits, a_bits), which identify the policy."""
        return self.w_bits, self.a_bits


def distinct(episodes: Iterable[Episode]) -> Iterator[Episode]:
    """Yield the first episode of every policy.

    Args:
        episodes: Episodes, in order.

    Yields:
        Episodes with different bits, in order.
    """
    seen: set[bytes] = set()
    for episode in episodes:
        # A digest takes less memory than the bits of many layers.
        key = blake2b(bytes((*episode.w_bits, *episode.a_bits)), digest_size=16).digest()
        if key not in seen:
            seen.add(key)
            yield episode
