"""Engines whose networks learn: one was fine-tuned before, one fine-tunes every policy for a few steps."""

from collections.abc import Iterator
from functools import cached_property
from itertools import count, islice

import torch
from torch import nn

from haq.execution.networks import runner
from haq.execution.structures import item_count, to_device
from haq.policy import PolicyBits
from haq.quantization.training.augmentation import augment
from haq.quantization.training.batch_norms import reestimate
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.initialization import Initializer
from haq.quantization.training.learner import DivergedError, Learner
from haq.quantization.training.network import TrainableNetwork, start_network
from haq.quantization.training.recipe import mean_weight_bits, resolve_rates
from haq.quantization.training.trainer import random_numbers
from haq.tasks.base import Batch, Task
from haq.tasks.predictions import Runner

STEP_PASSES = 3
"""Forward passes that one training step costs, besides the teacher's: its own, and twice as much to go back."""


class FinetunedEngine:
    """A network that was fine-tuned with one policy, beside the float network that it came from."""

    name = "torch"
    images_per_policy = 0

    def __init__(self, model: nn.Module, network: TrainableNetwork, bits: PolicyBits) -> None:
        self.model, self._network, self._bits = model, network, bits

    def runner(self, bits: PolicyBits | None) -> Runner:
        """The network, fine-tuned or in float. Raises ValueError for bits that it was not fine-tuned with."""
        if bits is not None and bits != self._bits:
            raise ValueError("this network was fine-tuned with other bits")
        return runner(self.model if bits is None else self._network)


class EpisodeEngine:
    """Fine-tunes the float network with every policy for a few steps, and then runs it.

    Every policy starts at the same float weights, which are never changed, and learns from the same batches of the
    train split: what comes of it does not depend on the policies before it. Learning from the float network's outputs
    and re-estimating batch norms on the last batches are part of it. A policy whose loss becomes NaN is judged as it
    was before its first step.
    """

    name = "torch"

    def __init__(
        self, model: nn.Module, initializer: Initializer, task: Task, *, config: FinetuneConfig, steps: int, seed: int
    ) -> None:
        self.model, self._initializer, self._task = model, initializer, task
        self._config, self._steps, self._seed = config, steps, seed
        self._tuned: tuple[PolicyBits, TrainableNetwork] | None = None
        self.shift = initializer.shift
        self.images_per_policy = steps * config.batch_size * (STEP_PASSES + config.teacher) + config.norm_images

    def runner(self, bits: PolicyBits | None) -> Runner:
        """The network after its steps with these bits, or in float as it is."""
        return runner(self.model if bits is None else self.network(bits))

    def network(self, bits: PolicyBits) -> TrainableNetwork:
        """The network after its steps with these bits."""
        if self._tuned is None or self._tuned[0] != bits:
            self._tuned = (bits, self._tune(bits))
        return self._tuned[1]

    @torch.enable_grad()
    def _tune(self, bits: PolicyBits) -> TrainableNetwork:
        network = start_network(self.model, self._initializer, bits)
        try:
            self._teach(network, bits)
        except DivergedError:
            network = start_network(self.model, self._initializer, bits).eval()
        reestimate(network, [inputs for inputs, _ in self._norm_batches])
        return network

    def _teach(self, network: TrainableNetwork, bits: PolicyBits) -> None:
        rates = resolve_rates(self._config, mean_weight_bits(self._initializer.trace, bits))
        learner = Learner(
            network,
            self._task,
            config=self._config,
            rates=rates,
            total_steps=self._steps,
            teacher=self.model,
        )
        batches = self._batches
        with random_numbers(self._seed, 0):
            network.train()
            for inputs, targets in batches:
                learner.step(inputs, targets)
        learner.finish()

    @cached_property
    def _batches(self) -> list[Batch]:
        """Those of all steps, kept, as every policy learns from them."""
        return list(islice(self._drawn(), self._steps))

    @property
    def _norm_batches(self) -> list[Batch]:
        return self._batches[-max(1, self._config.norm_images // self._config.batch_size) :]

    def _drawn(self) -> Iterator[Batch]:
        """Train batches, augmented, epoch after epoch."""
        size, device = self._config.batch_size, self._initializer.device
        for epoch in count():
            with random_numbers(self._seed, epoch) as generator:
                for inputs, targets in self._task.shuffled("train", batch_size=size, generator=generator):
                    if item_count(inputs) == min(size, self._task.size("train")):
                        moved = augment(inputs, self._config.augment, generator)
                        yield to_device(moved, device), to_device(targets, device)
