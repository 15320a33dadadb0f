"""Training of a float network: gradient descent, clipped gradients, and a rate that is divided at plateaus."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from time import monotonic

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.optim import SGD, Adam, Optimizer

from haq.config import SearchConfig
from haq.errors import UserError
from haq.execution.networks import require_runs, require_weights, run_network
from haq.execution.progress import SILENT, Watcher
from haq.execution.structures import item_count, to_device
from haq.experiment.loading import require_same_inputs, task_options
from haq.experiment.network_state import storable_state
from haq.experiment.preparation import require_device
from haq.files import write_atomically
from haq.network.weight_files import load_weights
from haq.network.zoo import build_model
from haq.quantization.training.augmentation import augmented
from haq.quantization.training.dropout import set_dropout
from haq.quantization.training.recipe import clip_gradients
from haq.quantization.training.trainer import network_score, random_numbers, steps_an_epoch
from haq.tasks import load_task
from haq.tasks.base import Batch, Task
from haq.tasks.carried_state import CarriedState
from haq.tasks.loading import num_classes_of
from haq.tasks.metrics import Metric
from haq.training.config import TrainingConfig


@dataclass(frozen=True, slots=True)
class EpochResult:
    """Result of one epoch.

    Attributes:
        epoch: Number of the epoch, from 1.
        loss: Mean training loss.
        search_accuracy: Score on the search split, of which higher is better.
        is_best: Whether this score is higher than those of all epochs before.
        lr: Learning rate of the epoch.
        seconds: Duration in seconds.
    """

    epoch: int
    loss: float
    search_accuracy: float
    is_best: bool
    lr: float
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Result of a training; the weights are those of the epoch with the best score on the search split.

    Attributes:
        metric: Metric of the scores.
        epochs: Results of all epochs.
        search_accuracy: Best score on the search split.
        accuracy: Score on the report split.
        seconds: Duration in seconds.
    """

    metric: Metric
    epochs: tuple[EpochResult, ...]
    search_accuracy: float
    accuracy: float
    seconds: float


class Training:
    """Training of one network; the random numbers of an epoch depend only on the seed and the number of the epoch.

    Networks with a state are trained by truncated back-propagation through time: the state is carried from batch to
    batch, without its gradient.

    Args:
        network: Network, which is trained in place.
        task: Task with a train split.
        config: Settings of the training.
        seed: Seed of order and dropout.
    """

    def __init__(self, network: nn.Module, task: Task, *, config: TrainingConfig, seed: int) -> None:
        self._network, self._task, self._config, self._seed = network, task, config, seed
        self._batch_size = min(config.batch_size, task.size("train"))
        self._device = next(network.parameters()).device
        self._optimizer = _optimizer(network, config)
        self._total = config.epochs * steps_an_epoch(task, self._batch_size)
        self._steps = 0
        self.best = -inf
        """Best score on the search split."""
        if config.dropout is not None:
            set_dropout(network, config.dropout)

    def run(self, watcher: Watcher = SILENT) -> Iterator[EpochResult]:
        """Train for all epochs; the learning rate is divided after each epoch that is not the best so far.

        Args:
            watcher: Receives the steps.

        Yields:
            Result of each epoch; the network is in evaluation mode then.

        Raises:
            UserError: The loss is NaN or infinite.
        """
        watcher.begin("step", self._total)
        try:
            for epoch in range(self._config.epochs):
                began = monotonic()
                loss = self._run_epoch(epoch, watcher)
                score = network_score(self._network, self._task, "search", batch_size=self._batch_size)
                (group,) = self._optimizer.param_groups
                rate, is_best = group["lr"], score > self.best
                if not is_best:
                    group["lr"] = rate / self._config.plateau_factor
                self.best = max(self.best, score)
                yield EpochResult(epoch + 1, loss, score, is_best, rate, round(monotonic() - began, 3))
        finally:
            watcher.end()

    def _run_epoch(self, epoch: int, watcher: Watcher) -> float:
        """Train for one epoch; return the mean loss."""
        total, items = 0.0, 0
        carried = CarriedState(self._task, "train", streams=self._batch_size)
        with random_numbers(self._seed, epoch) as generator:
            self._network.train()
            for batch in self._task.shuffled("train", batch_size=self._batch_size, generator=generator):
                count = item_count(batch[0])
                if count < self._batch_size:
                    continue
                total += count * self._step(augmented(self._task, batch, "auto", generator), carried)
                items += count
                self._steps += 1
                watcher.measured(self._steps, {"loss": total / items})
                watcher.step(self._steps, f"loss {total / items:.4f}")
        return total / items

    def _step(self, batch: Batch, carried: CarriedState) -> float:
        """Train on one batch; return the loss before the step."""
        inputs, targets = to_device(batch, self._device)
        outputs = run_network(self._network, carried.enter(inputs))
        carried.leave(outputs)
        loss = self._task.loss(outputs, targets)
        value = loss.item()
        if not isfinite(value):
            raise UserError(f"the loss became {value} in step {self._steps + 1}; lower --lr")
        self._optimizer.zero_grad()
        torch.autograd.backward(loss)
        clip_gradients(self._network.parameters(), self._config.max_gradient_norm)
        self._optimizer.step()
        return value


def train_configured(
    config: SearchConfig, learning: TrainingConfig, path: Path, *, watcher: Watcher = SILENT
) -> TrainingResult:
    """Train the network that a configuration names, and write its weights after each epoch that is the best so far.

    Args:
        config: Settings with model, data, weights to start with, device and seed.
        learning: Settings of the training.
        path: Safetensors file; its folder must exist.
        watcher: Receives phases, steps and epochs.

    Returns:
        The result.

    Raises:
        UserError: A setting is wrong, or model or data cannot be loaded or do not fit.
    """
    began = monotonic()
    require_device(config.device)
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--out {path} is no file in an existing folder; give one, such as lstm.safetensors")
    watcher.phase("load")
    network, task = _loaded(config)
    network = network.to(config.device)
    lines: list[EpochResult] = []
    training = Training(network, task, config=learning, seed=config.seed)
    for line in training.run(watcher):
        if line.is_best:
            write_atomically(path, save(_owned(storable_state(network)[0])))
        watcher.line(_text(task, line, learning.epochs))
        lines.append(line)
    watcher.phase("report")
    load_weights(network, path)
    report = network_score(network, task, "report", batch_size=learning.batch_size)
    return TrainingResult(task.metric, tuple(lines), training.best, report, round(monotonic() - began, 3))


def _loaded(config: SearchConfig) -> tuple[nn.Module, Task]:
    require_same_inputs(config)
    network = build_model(config.model, num_classes=num_classes_of(config.data), seed=config.seed)
    if config.weights is not None:
        load_weights(network, config.weights)
    task = load_task(config.data, model=network, options=task_options(config))
    if not task.size("train"):
        raise UserError(f"haq train needs a train split, which {task.name} does not have; add 'train' to its data sets")
    require_runs(network, task.example())
    require_weights(network)
    task.validate(network)
    task.prepare()
    return network, task


def _optimizer(network: nn.Module, config: TrainingConfig) -> Optimizer:
    make: type[Adam | SGD] = Adam if config.optimizer == "adam" else SGD
    return make([parameter for parameter in network.parameters() if parameter.requires_grad], lr=config.first_rate)


def _owned(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors, none of which shares its memory, as tied weights do."""
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def _text(task: Task, line: EpochResult, epochs: int) -> str:
    score = f"search {task.metric.name} {task.metric.text(line.search_accuracy, digits=2)}"
    return f"epoch {line.epoch}/{epochs}  loss {line.loss:.4f}  {score}  lr {line.lr:.3g}  {line.seconds:.0f} s"
