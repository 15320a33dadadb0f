"""Language modelling: cross entropy of the next token, perplexity, and a state that is carried over batches."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import exp
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from haq.errors import UserError
from haq.execution.networks import run_network
from haq.execution.structures import Structure, describe, map_tensors
from haq.tasks.base import Batch, SplitName
from haq.tasks.distances import Distance, sequence_distance
from haq.tasks.language_modelling.segments import Segments
from haq.tasks.language_modelling.splits import beginning, without
from haq.tasks.metrics import PERPLEXITY, Metric

MAX_LOSS = 100.0
"""Largest mean cross entropy of which a perplexity is computed, in nats; exp(100) is about 3e43."""


class Perplexity:
    """Meter of the exponential of the mean cross entropy per token.

    Attributes:
        loss: Sum of the cross entropies, in nats.
        count: Number of tokens.
    """

    def __init__(self) -> None:
        self.loss, self.count = 0.0, 0

    def update(self, outputs: Structure, targets: Tensor) -> None:
        """Add a batch.

        Args:
            outputs: Logits [n, t, vocabulary], or a tuple that begins with them.
            targets: The next token at each position, [n, t].
        """
        self.loss += token_loss(logits_of(outputs), targets).item() * targets.numel()
        self.count += targets.numel()

    def compute(self) -> float:
        """Return the perplexity."""
        return exp(min(self.loss / self.count, MAX_LOSS))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LanguageModellingTask:
    """Task whose items are segments of text; the target of each token is the next one.

    Networks with a state get (tokens, state) and return (logits, state); others get tokens and return logits. States
    may be any structure of tensors whose first dimension counts items.

    Args:
        name: Name for the command line and for messages.
        splits: Segments of each split.
        vocabulary_size: Number of different tokens.
        initial_state: State [1, ...] at the beginning of a text; None for networks without a state.
        facts: Further entries of `description`.
    """

    name: str
    splits: Mapping[SplitName, Segments]
    vocabulary_size: int
    initial_state: Structure | None
    facts: Mapping[str, Any]

    @property
    def metric(self) -> Metric:
        return PERPLEXITY

    def size(self, split: SplitName) -> int:
        return len(self.splits[split]) if split in self.splits else 0

    def batches(self, split: SplitName, *, batch_size: int) -> Iterator[Batch]:
        return self._with_initial_state(self.splits[split].batches(batch_size) if split in self.splits else iter(()))

    def shuffled(self, split: SplitName, *, batch_size: int, generator: torch.Generator) -> Iterator[Batch]:
        """Iterate over a whole split once, in streams that begin at a random segment.

        Args:
            split: Name of the split; a missing one has no batches.
            batch_size: Number of items of a batch, at least 1; the last batch may be smaller.
            generator: Random number generator on the CPU.

        Returns:
            Iterator over (inputs, targets); item i of a batch continues item i of the batch before.
        """
        if split not in self.splits:
            return iter(())
        return self._with_initial_state(self.splits[split].shuffled(batch_size, generator))

    def example(self) -> Structure:
        return next(self.batches("calibration", batch_size=1))[0]

    def prepare(self) -> None:
        """Do nothing; the text is read before the task is made."""

    def validate(self, model: nn.Module) -> None:
        """Run a network on one segment and check that its outputs are logits of the vocabulary.

        Args:
            model: Float network, on the CPU and in evaluation mode.

        Raises:
            UserError: The outputs have another form.
        """
        inputs, targets = next(self.batches("calibration", batch_size=1))
        with torch.no_grad():
            outputs = run_network(model, inputs)
        require_logits(outputs, targets, vocabulary_size=self.vocabulary_size, name=self.name)
        if self.initial_state is not None and describe(self.state(outputs)) != describe(self.initial_state):
            raise UserError(
                f"the network returns a state of shape {describe(self.state(outputs))} for one of "
                f"{describe(self.initial_state)}; {self.name} carries it from batch to batch, with items first"
            )

    def loss(self, outputs: Structure, targets: Tensor) -> Tensor:
        """Compute the mean cross entropy per token.

        Args:
            outputs: Logits [n, t, vocabulary], or a tuple that begins with them.
            targets: The next token at each position, [n, t].

        Returns:
            The loss in nats, [].
        """
        return token_loss(logits_of(outputs), targets)

    def distance(self, outputs: Structure, reference: Structure) -> Distance:
        return sequence_distance(logits_of(outputs), logits_of(reference))

    def meter(self) -> Perplexity:
        return Perplexity()

    def same_predictions(self, outputs: Structure, reference: Structure) -> Tensor:
        found, expected = (logits_of(each).argmax(dim=-1) for each in (outputs, reference))
        return (found == expected).flatten(1).all(dim=1)

    def logits(self, outputs: Structure) -> Tensor:
        return logits_of(outputs).float().flatten(0, 1)

    def streams(self, split: SplitName) -> int | None:
        return None if self.initial_state is None or split not in self.splits else self.splits[split].streams

    def state(self, batch: Structure) -> Structure:
        return batch[1]

    def with_state(self, inputs: Structure, state: Structure) -> Structure:
        return inputs[0], state

    def with_other_calibration(self) -> "tuple[LanguageModellingTask, int] | None":
        """Return the task with other segments of train as calibration items.

        Returns:
            The task, and 0, the number of shared items; None if train has no further segments.
        """
        calibration = self.splits["calibration"]
        rest = without(self.splits["train"], calibration)
        if rest is None:
            return None
        return replace(self, splits={**self.splits, "calibration": beginning(rest, len(calibration))}), 0

    def description(self) -> Mapping[str, Any]:
        return {"name": self.name, "vocabulary_size": self.vocabulary_size, **self.facts}

    def _with_initial_state(self, batches: Iterator[tuple[Tensor, Tensor]]) -> Iterator[Batch]:
        for tokens, targets in batches:
            state = _repeated(self.initial_state, len(tokens))
            yield tokens if self.initial_state is None else (tokens, state), targets


def _repeated(state: Structure, count: int) -> Structure:
    """Repeat the state of one item."""
    return map_tensors(lambda part: part.repeat(count, *[1] * (part.ndim - 1)), state)


def logits_of(outputs: Structure) -> Tensor:
    """Return the logits of a network's outputs.

    Args:
        outputs: Logits, or a tuple that begins with them.

    Returns:
        Logits [n, t, vocabulary].
    """
    found: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
    return found


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the mean cross entropy per token.

    Args:
        logits: Logits [n, t, vocabulary].
        targets: Tokens [n, t].

    Returns:
        The loss in nats, [].
    """
    return cross_entropy(logits.flatten(0, 1), targets.flatten())


def require_logits(outputs: Structure, targets: Tensor, *, vocabulary_size: int, name: str) -> None:
    """Require outputs that are logits of a vocabulary, or a tuple (logits, state).

    Args:
        outputs: Outputs of a network.
        targets: Tokens [n, t].
        vocabulary_size: Number of different tokens.
        name: Name of the data, for messages.

    Raises:
        UserError: The outputs have another form.
    """
    logits = outputs[0] if isinstance(outputs, tuple) and len(outputs) == 2 else outputs
    if not isinstance(logits, Tensor) or logits.shape[:-1] != targets.shape:
        raise UserError(
            f"the network answers {tuple(targets.shape)} tokens with {describe(outputs)}; {name} needs logits "
            "[items, tokens, vocabulary], or a tuple of them and a state"
        )
    if logits.shape[-1] != vocabulary_size:
        raise UserError(
            f"the network has a vocabulary of {logits.shape[-1]} tokens and {name} has {vocabulary_size}; give the "
            "text that it was trained on, or other weights"
        )
