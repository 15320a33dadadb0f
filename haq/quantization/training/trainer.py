"""Epochs over the train split: the same bits every time on a CPU."""

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
from haq.quantization.training.augmentation import augment
from haq.quantization.training.batch_norms import reestimate
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.learner import Learner
from haq.quantization.training.ranks import ALONE, Ranks
from haq.tasks.base import Batch, SplitName, Task
from haq.tasks.predictions import score

Line = dict[str, Any]
"""One line of the journal."""


class Trainer:
    """Trains a network epoch by epoch; what an epoch draws at random depends on the seed and its number alone."""

    def __init__(
        self, learner: Learner, task: Task, *, config: FinetuneConfig, seed: int = 0, ranks: Ranks = ALONE
    ) -> None:
        self.learner, self._task, self._config = learner, task, config
        self._seed, self._ranks, self.epoch = seed, ranks, 0
        self._device = next(learner.network.parameters()).device

    def run_epoch(self, watcher: Watcher = SILENT) -> Line:
        """One pass over the train split; returns its line of the journal, accuracy on the search split included."""
        began, loss, images, meter = monotonic(), 0.0, 0, self._task.meter()
        metric, learner, network = self._task.metric, self.learner, self.learner.network
        with random_numbers(self._seed, self.epoch) as generator:
            network.train()
            for inputs, targets in self._batches(generator):
                outputs, value = learner.step(inputs, targets)
                meter.update(outputs, targets)
                count = item_count(inputs)
                loss, images = loss + value * count, images + count
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
        """The moving average if there is one, and batch norms re-estimated; the network is in eval mode then."""
        self.learner.finish()
        self.reestimate_norms()

    def reestimate_norms(self) -> None:
        """From the same train images each time; training itself does not depend on running statistics."""
        if self._config.norm_images:
            with random_numbers(self._seed, self._config.epochs) as generator:
                reestimate(self.learner.network, self._norm_inputs(generator))

    def state_dict(self) -> Line:
        """All that the next epoch depends on."""
        return {"epoch": self.epoch, "learner": self.learner.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.epoch = state["epoch"]
        self.learner.load_state_dict(state["learner"])

    def _batches(self, generator: Generator) -> Iterator[Batch]:
        """This process' share of every batch, augmented."""
        for inputs, targets in self._full_batches(generator):
            moved = augment(inputs, self._config.augment, generator)
            yield to_device(self._ranks.share(moved), self._device), to_device(self._ranks.share(targets), self._device)

    def _norm_inputs(self, generator: Generator) -> Iterator[Structure]:
        batches = max(1, self._config.norm_images // self._config.batch_size)
        for (inputs, _), _ in zip(self._full_batches(generator), range(batches), strict=False):
            yield to_device(inputs, self._device)

    def _full_batches(self, generator: Generator) -> Iterator[Batch]:
        """The train split in random order; what is left at the end is left out where it makes no whole batch."""
        size = self._config.batch_size
        for inputs, targets in self._task.shuffled("train", batch_size=size, generator=generator):
            if item_count(inputs) == min(size, self._task.size("train")):
                yield inputs, targets


def steps_an_epoch(task: Task, batch_size: int) -> int:
    """Whole batches of the train split; one where it is smaller than a batch."""
    return max(1, task.size("train") // batch_size)


@contextmanager
def random_numbers(seed: int, number: int) -> Iterator[Generator]:
    """A generator for one part of a run; what networks draw themselves, as dropout does, follows the same seed.

    Afterwards the caller's random numbers are as they were.
    """
    drawn = int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    with torch.random.fork_rng():
        torch.manual_seed(drawn)
        yield Generator().manual_seed(drawn)


def network_score(network: nn.Module, task: Task, split: SplitName, *, batch_size: int) -> float:
    """Return a network's score on a split in eval mode; it is in eval mode afterwards."""
    switch_to_eval(network)
    return score(runner(network), task, split, batch_size=batch_size)
