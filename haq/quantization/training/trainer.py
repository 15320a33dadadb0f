"""Training epochs over the train split, deterministic on a CPU."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Generator, nn

from haq.execution.networks import runner, switch_to_eval
from haq.execution.progress import SILENT, Watcher
from haq.execution.structures import Structure, item_count, to_device
from haq.quantization.training.augmentation import augmented
from haq.quantization.training.batch_norms import reestimate
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.learner import Learner
from haq.quantization.training.ranks import ALONE, Ranks
from haq.tasks.base import Batch, SplitName, Task
from haq.tasks.predictions import score

Line = dict[str, Any]
"""Record of one epoch."""


class Trainer:
    """Training loop; the random numbers of an epoch depend only on the seed and the number of the epoch.

    Args:
        learner: Network, loss and optimizers.
        task: Task with a train split.
        config: Settings of fine-tuning.
        seed: Seed of order, augmentation and dropout.
        ranks: Processes that share every batch.

    Attributes:
        learner: Network, loss and optimizers.
        epoch: Number of completed epochs.
    """

    def __init__(
        self, learner: Learner, task: Task, *, config: FinetuneConfig, seed: int = 0, ranks: Ranks = ALONE
    ) -> None:
        self.learner, self._task, self._config = learner, task, config
        self._seed, self._ranks, self.epoch = seed, ranks, 0
        self._device = next(learner.network.parameters()).device

    def run_epoch(self, watcher: Watcher = SILENT) -> Line:
        """Train for one epoch.

        Args:
            watcher: Observer of the progress.

        Returns:
            Record of the epoch, with the score on the search split.
        """
        began, loss, images, meter = monotonic(), 0.0, 0, self._task.meter()
        metric, learner, network = self._task.metric, self.learner, self.learner.network
        with random_numbers(self._seed, self.epoch) as generator:
            network.train()
            learner.begin_epoch()
            for inputs, targets in self._batches(generator):
                outputs, value = learner.step(inputs, targets)
                meter.update(outputs, targets)
                count = item_count(inputs)
                loss, images = loss + value * count, images + count
                watcher.measured(learner.steps, {"loss": loss / images})
                watcher.step(learner.steps, f"loss {loss / images:.4f}")
        self.epoch += 1
        self.reestimate_norms()
        line = {
            "epoch": self.epoch,
            "loss": loss / images,
            "train_accuracy": metric.score(meter.compute()),
            "search_accuracy": network_score(network, self._task, "search", batch_size=self._config.batch_size),
        }
        frozen = {} if learner.freezer is None else {"frozen": learner.freezer.frozen}
        return line | frozen | {"seconds": round(monotonic() - began, 3)}

    def finish(self) -> None:
        """Use the moving average of weights if there is one, and re-estimate batch norms, in evaluation mode."""
        self.learner.finish()
        self.reestimate_norms()

    def reestimate_norms(self) -> None:
        """Re-estimate batch norms, from the same train images each time; training does not depend on them."""
        if self._config.norm_images:
            with random_numbers(self._seed, self._config.epochs) as generator:
                reestimate(self.learner.network, self._norm_inputs(generator))

    def state_dict(self) -> Line:
        """Return the state that the next epoch depends on."""
        return {"epoch": self.epoch, "learner": self.learner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state.

        Args:
            state: Result of `state_dict`.
        """
        self.epoch = state["epoch"]
        self.learner.load_state_dict(state["learner"])

    def _batches(self, generator: Generator) -> Iterator[Batch]:
        """Yield this process' share of every batch, augmented."""
        for batch in self._full_batches(generator):
            inputs, targets = augmented(self._task, batch, self._config.augment, generator)
            yield (
                to_device(self._ranks.share(inputs), self._device),
                to_device(self._ranks.share(targets), self._device),
            )

    def _norm_inputs(self, generator: Generator) -> Iterator[Structure]:
        batches = max(1, self._config.norm_images // self._config.batch_size)
        for (inputs, _), _ in zip(self._full_batches(generator), range(batches), strict=False):
            yield to_device(inputs, self._device)

    def _full_batches(self, generator: Generator) -> Iterator[Batch]:
        """Yield the train split in random order, without an incomplete last batch."""
        size = self._config.batch_size
        for inputs, targets in self._task.shuffled("train", batch_size=size, generator=generator):
            if item_count(inputs) == min(size, self._task.size("train")):
                yield inputs, targets


def steps_an_epoch(task: Task, batch_size: int) -> int:
    """Return the number of complete batches of the train split, at least 1.

    Args:
        task: Task with a train split.
        batch_size: Number of items of a batch.

    Returns:
        The number of batches.
    """
    return max(1, task.size("train") // batch_size)


@contextmanager
def random_numbers(seed: int, number: int) -> Iterator[Generator]:
    """Seed torch's global generator and a new one for one part of a run; restore the caller's random state afterwards.

    Args:
        seed: Seed of the run.
        number: Number of the part.

    Yields:
        Generator with the same seed as the global one, which networks use for dropout.
    """
    drawn = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    with torch.random.fork_rng():
        torch.manual_seed(drawn)
        yield Generator().manual_seed(drawn)


def network_score(network: nn.Module, task: Task, split: SplitName, *, batch_size: int) -> float:
    """Compute the score of a network on a split; the network is in evaluation mode afterwards.

    Args:
        network: Network.
        task: Task.
        split: Name of the split.
        batch_size: Number of items of a batch.

    Returns:
        The score.
    """
    switch_to_eval(network)
    return score(runner(network), task, split, batch_size=batch_size)
