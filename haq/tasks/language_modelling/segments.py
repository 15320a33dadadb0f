"""Segments of text, in an order in which each batch continues the one before."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor


def stream_order(count: int, streams: int) -> Tensor:
    """Return consecutive segments as streams that are read side by side.

    The segments are divided into streams of consecutive ones, the first of which may have one more than the others.
    Item k is in stream k mod `streams`, so that it continues item k - `streams`.

    Args:
        count: Number of segments.
        streams: Number of streams.

    Returns:
        Numbers [count] of the segments.

    Examples:
        >>> stream_order(7, 3).tolist()
        [0, 3, 5, 1, 4, 6, 2]
    """
    items = torch.arange(count)
    stream, place = items % streams, items // streams
    return stream * (count // streams) + stream.clamp(max=count % streams) + place


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Segments of a text, as the items of a split.

    Attributes:
        text: Numbers of tokens, int64 [tokens].
        length: Number of tokens of a segment.
        places: Numbers [items] of the segments in the text, ascending; segment k begins at token k * `length`.
        streams: Number of streams that are read side by side.
        tail: Number of tokens of a shorter last item, which follows the last segment; with one stream only.
    """

    text: Tensor
    length: int
    places: Tensor
    streams: int
    tail: int = 0

    def __len__(self) -> int:
        return len(self.places) + bool(self.tail)

    @property
    def order(self) -> Tensor:
        """Numbers of the segments in the order of the items."""
        return self.places[stream_order(len(self.places), self.streams)]

    def batches(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over all items in order; item k continues item k - `streams`.

        Args:
            batch_size: Number of items of a batch; the last may be smaller, and a shorter item is a batch of its own.

        Yields:
            Tokens and the tokens that follow each of them, int64 [n, length].
        """
        yield from map(self.take, torch.split(self.order, batch_size))
        if self.tail:
            start = (int(self.places[-1]) + 1) * self.length
            window = self.text[None, start : start + self.tail + 1]
            yield window[:, :-1], window[:, 1:]

    def shuffled(self, batch_size: int, generator: Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over all items in streams that begin at a random segment; each batch continues the one before.

        Args:
            batch_size: Number of items of a batch and of streams; the last batch may be smaller.
            generator: Random number generator.

        Yields:
            Tokens and the tokens that follow each of them, int64 [n, length].
        """
        start = torch.randint(len(self), (), generator=generator)
        order = self.places[(stream_order(len(self), min(batch_size, len(self))) + start) % len(self)]
        yield from map(self.take, torch.split(order, batch_size))

    def take(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Return segments.

        Args:
            places: Numbers [n] of segments in the text.

        Returns:
            Tokens and the tokens that follow each of them, int64 [n, length].
        """
        windows = self.text[(places * self.length)[:, None] + torch.arange(self.length + 1)]
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def facts(self) -> dict[str, Any]:
        """Return sizes, and a hash that differs for other items or another order.

        Returns:
            `size`, `tokens` and `sha256`.
        """
        tokens = torch.cat([tokens.flatten() for tokens, _ in self.batches(len(self))])
        digest = hashlib.sha256(tokens.numpy().astype("<i8").tobytes())
        return {"size": len(self), "tokens": tokens.numel(), "sha256": digest.hexdigest()}


def segment_count(text: Tensor, length: int) -> int:
    """Return the number of whole segments of a text; each needs the token after its last.

    Args:
        text: Numbers of tokens [tokens].
        length: Number of tokens of a segment.

    Returns:
        The number of segments.

    Examples:
        >>> segment_count(torch.zeros(11), 5), segment_count(torch.zeros(10), 5)
        (2, 1)
    """
    return (len(text) - 1) // length
