"""Engines of trained networks: one that was fine-tuned before, and one that fine-tunes each policy for a few steps."""

from collections.abc import Iterator
from functools import cached_property
from itertools import count, islice

import torch
from torch import nn

from haq.execution.networks import runner
from haq.execution.structures import item_count, to_device
from haq.policy import PolicyBits
from haq.quantization.training.augmentation import augmented
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
"""Cost of a training step in forward passes, teacher excluded: one forward, and two for the backward pass."""


class FinetunedEngine:
    """Engine of a network that was fine-tuned with one policy, and of the float network that training started from.

    Args:
        model: Float network.
        network: Fine-tuned network, in evaluation mode.
        bits: (w_bits, a_bits) of every layer that it was trained with.

    Attributes:
        name: Name of the engine.
        images_per_policy: Number of images that are run for a policy before its first output: none.
        model: Float network.
    """

    name = "torch"
    images_per_policy = 0

    def __init__(self, model: nn.Module, network: TrainableNetwork, bits: PolicyBits) -> None:
        self.model, self._network, self._bits = model, network, bits

    def runner(self, bits: PolicyBits | None) -> Runner:
        """Return the fine-tuned or the float network as a function.

        Args:
            bits: (w_bits, a_bits) of every layer; None for the float network.

        Returns:
            Function from inputs [n, ...] to outputs.

        Raises:
            ValueError: The network was fine-tuned with other bits.
        """
        if bits is not None and bits != self._bits:
            raise ValueError("this network was fine-tuned with other bits")
        return runner(self.model if bits is None else self._network)


class EpisodeEngine:
    """Engine that fine-tunes the float network with each policy for a few steps before it is evaluated.

    Training starts at the same float weights and uses the same batches for each policy, so results do not depend on the
    policies before. It includes distillation from the float network if configured, and re-estimation of batch norms on
    the last batches. If the loss of a policy becomes NaN or infinite, the policy is evaluated without training.

    Args:
        model: Float network; it is not changed.
        initializer: Initial quantizers of this network.
        task: Task with a train split.
        config: Settings of fine-tuning.
        steps: Number of training steps for each policy.
        seed: Seed of order, augmentation and dropout.

    Attributes:
        name: Name of the engine.
        model: Float network.
        shift: Zero points of skewed inputs.
        images_per_policy: Cost of the training of a policy as a number of images in forward passes.
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
        """Return the fine-tuned or the float network as a function.

        Args:
            bits: (w_bits, a_bits) of every layer; None for the float network.

        Returns:
            Function from inputs [n, ...] to outputs.
        """
        return runner(self.model if bits is None else self.network(bits))

    def network(self, bits: PolicyBits) -> TrainableNetwork:
        """Return the network fine-tuned with a policy; the last one is kept.

        Args:
            bits: (w_bits, a_bits) of every layer.

        Returns:
            The network, in evaluation mode.

        Raises:
            UserError: The network disables gradients, or items cannot be read.
        """
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
        """Batches of all steps, which are the same for each policy."""
        return list(islice(self._drawn(), self._steps))

    @property
    def _norm_batches(self) -> list[Batch]:
        return self._batches[-max(1, self._config.norm_images // self._config.batch_size) :]

    def _drawn(self) -> Iterator[Batch]:
        """Yield augmented train batches, epoch after epoch."""
        size, device = self._config.batch_size, self._initializer.device
        for epoch in count():
            with random_numbers(self._seed, epoch) as generator:
                for batch in self._task.shuffled("train", batch_size=size, generator=generator):
                    if item_count(batch[0]) == min(size, self._task.size("train")):
                        inputs, targets = augmented(self._task, batch, self._config.augment, generator)
                        yield to_device(inputs, device), to_device(targets, device)
