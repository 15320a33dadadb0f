"""Session of a fine-tuning: a trainer, and the run folder that its results are written to."""

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from time import monotonic
from typing import Any

import torch
from torch import nn

from haq.evaluation.engines.episode_finetuning import require_trainable
from haq.execution.progress import SILENT, Watcher
from haq.execution.structures import Structure, to_device
from haq.experiment.inputs import Inputs
from haq.experiment.learning_request import LearningRequest
from haq.experiment.network_state import storable_state
from haq.experiment.preparation import prepare_network
from haq.experiment.quantized_policy import QuantizedPolicy, describe_quantizers
from haq.experiment.results import save_result, save_source, trained_state
from haq.finetuning.journal import Checkpoint, Summary, append_epoch, keep_epochs
from haq.policy import Policy
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.dropout import set_dropout
from haq.quantization.training.initialization import Initializer
from haq.quantization.training.learner import Learner
from haq.quantization.training.network import start_network
from haq.quantization.training.ranks import ALONE, Ranks
from haq.quantization.training.recipe import mean_weight_bits, resolve_rates
from haq.quantization.training.trainer import Line, Trainer, network_score, steps_an_epoch
from haq.runs.records import Metric, damage_named, same_settings
from haq.runs.run_folder import CHECKPOINT, RunFolder
from haq.tasks.base import SplitName
from haq.tasks.optional import float_warning

FinetuneRequest = LearningRequest[FinetuneConfig]


class FinetuneSession:
    """Fine-tuning of one network. With several processes, only the one that entered a folder writes files.

    Args:
        request: Settings and policy.
        inputs: Objects that replace the model and the data that the settings name.
        ranks: This process among those that train together.
        watcher: Receives the phases of the preparation.

    Attributes:
        policy: Bits of all layers.
        network: Network with trainable quantizers.
        trainer: Trainer of the network.
        rates: Learning rates and weight decay.
        start: Accuracies on the search split before training, as fractions.
        warnings: Problems of the float network and of its trace, one line each.

    Raises:
        UserError: Model or data cannot be loaded, do not fit the policy, or cannot be trained.
    """

    def __init__(
        self, request: FinetuneRequest, inputs: Inputs, *, ranks: Ranks = ALONE, watcher: Watcher = SILENT
    ) -> None:
        config, learning = request.config, request.learning
        # An integer graph would be built for nothing.
        in_torch = config.model_copy(update={"engine": "torch"})
        prepared = prepare_network(
            in_torch, model=inputs.model, task=inputs.task, example=request.example, progress=watcher.phase
        )
        require_trainable(config, prepared.task, flag="fine-tuning")
        ranks.require_equal_shares(min(learning.batch_size, prepared.task.size("train")))
        storable_state(prepared.priced.model)  # what cannot be saved is found before anything is trained
        self.request, self.task = request, prepared.task
        self._model, self._trace, self._weights = prepared.priced.model, prepared.priced.trace, prepared.priced.weights
        self.policy = request.policy_for(prepared.priced)
        bits = (self.policy.w_bits, self.policy.a_bits)
        self._mean_bits = mean_weight_bits(self._trace, bits)
        self.rates = resolve_rates(learning, self._mean_bits)
        watcher.phase("calibrate")
        rules = prepared.quantizers.options
        initializer = Initializer(
            self._model,
            self._trace,
            self._calibration,
            shift=learning.shift,
            scales=rules.weight_scales,
            power_of_two_inputs=rules.power_of_two_inputs,
        )
        self.network = start_network(self._model, initializer, bits)
        if learning.dropout is not None:
            set_dropout(self.network, learning.dropout)
        teacher = deepcopy(self._model).to(memory_format=torch.channels_last).requires_grad_(requires_grad=False)
        learner = Learner(
            self.network,
            self.task,
            config=learning,
            rates=self.rates,
            total_steps=learning.epochs * steps_an_epoch(self.task, learning.batch_size),
            teacher=teacher,
            ranks=ranks,
        )
        self.trainer = Trainer(learner, self.task, config=learning, seed=config.seed, ranks=ranks)
        watcher.phase("search accuracy")
        self.trainer.reestimate_norms()
        self.start = {
            "search_accuracy_fp32": self._score(self._model, "search"),
            "search_accuracy_start": self._score(self.network, "search"),
        }
        self.warnings = tuple(self._warnings(initializer))
        self._run: RunFolder | None = None
        self._began, self._seconds_before = monotonic(), 0.0

    @property
    def seconds(self) -> float:
        """Duration of this fine-tuning in seconds, earlier sessions included."""
        return self._seconds_before + monotonic() - self._began

    def enter(self, run: RunFolder) -> None:
        """Start writing into a run folder.

        Args:
            run: Folder of the run.
        """
        self._run = run
        save_source(run, self.request.config, self._trace, self.request.trace_input(self.task))

    def resume(self, state: Mapping[str, Any] | None, *, journal: int) -> None:
        """Continue from a checkpoint; without one of this run, or with a shorter journal, start at the first epoch.

        Args:
            state: The checkpoint; None without one.
            journal: Number of epochs in the journal.

        Raises:
            UserError: The checkpoint of this run is damaged; no file is overwritten then.
        """
        if state is not None and same_settings(state.get("run"), self._identity):
            with damage_named(self._checkpoint, remedy="delete it to start this run again from its first epoch"):
                kept = Checkpoint.model_validate(state)
                if journal >= kept.trainer.epoch:
                    self.trainer.load_state_dict(state["trainer"])
                    self._seconds_before = kept.seconds
        if self._run is not None:
            keep_epochs(self._run, self.trainer.epoch)

    @property
    def _checkpoint(self) -> Path:
        """File of the checkpoint; its name alone in other processes than the first."""
        return Path(CHECKPOINT) if self._run is None else self._run.path / CHECKPOINT

    def learn(self, watcher: Watcher = SILENT) -> None:
        """Run the remaining epochs, with a checkpoint after each.

        Args:
            watcher: Receives steps and epochs.

        Raises:
            UserError: The loss became NaN.
        """
        for warning in self.warnings:
            watcher.warn(warning)
        watcher.line(self._opening())
        learner = self.trainer.learner
        watcher.begin("step", learner.total_steps, done=learner.steps)
        try:
            while self.trainer.epoch < self.request.learning.epochs:
                line = self.trainer.run_epoch(watcher)
                self._keep(line)
                watcher.line(self._result(line))
        finally:
            watcher.end()
        self.trainer.finish()

    def finish(self) -> tuple[Policy, Summary]:
        """Evaluate the network and write its artifact.

        Returns:
            The policy with its accuracies, and the summary.
        """
        summary = self._summary()
        accuracy = {
            "search": summary.search_accuracy,
            "fp32_search": summary.search_accuracy_fp32,
            "report": summary.accuracy,
            "fp32_report": summary.accuracy_fp32,
        }
        tensors = self.network.quantizer_tensors()
        described = describe_quantizers(self.policy, tensors, self._trace.layers)
        policy = described.in_version_2(accuracy=accuracy, weights=self._weights)
        if self._run is not None:
            trained = trained_state(self.network, self.request.learning.shift)
            save_result(self._run, QuantizedPolicy(policy, tensors, trained), summary.model_dump(mode="json"))
        return policy, summary

    def _opening(self) -> str:
        """Describe network, data and the accuracies before training."""
        metric = self.task.metric
        before, quantized = (metric.text(self.start[f"search_accuracy_{key}"], digits=2) for key in ("fp32", "start"))
        items = f"{self.task.size('train')} train {metric.items}"
        return f"{self.policy.model}, {items}; search {metric.name} in float {before}, quantized {quantized}"

    def _result(self, line: Line) -> str:
        """Describe the result of an epoch."""
        trained, searched = (
            self.task.metric.text(line[f"{split}_accuracy"], digits=2) for split in ("train", "search")
        )
        epoch = f"epoch {line['epoch']}/{self.request.learning.epochs}"
        return f"{epoch}  loss {line['loss']:.4f}  train {trained}  search {searched}"

    def _keep(self, line: Line) -> None:
        if self._run is not None:
            append_epoch(self._run, line)
            state = {"run": self._identity, "seconds": self.seconds, "trainer": self.trainer.state_dict()}
            self._run.save_checkpoint(state)

    def _summary(self) -> Summary:
        learning, train_images = self.request.learning, self.task.size("train")
        accuracy_fp32, accuracy = self._score(self._model, "report"), self._score(self.network, "report")
        return Summary(
            metric=Metric.model_validate(self.task.metric.record(accuracy)),
            accuracy_fp32=accuracy_fp32,
            accuracy=accuracy,
            search_accuracy=self._score(self.network, "search"),
            search_accuracy_fp32=self.start["search_accuracy_fp32"],
            search_accuracy_start=self.start["search_accuracy_start"],
            report_images=self.task.size("report"),
            search_images=self.task.size("search"),
            train_images=train_images,
            epochs=learning.epochs,
            steps=self.trainer.learner.steps,
            mean_weight_bits=self._mean_bits,
            lr=self.rates.lr,
            scale_lr=self.rates.scale_lr,
            weight_decay=self.rates.weight_decay,
            cost=self.policy.cost,
            baseline_cost=self.policy.baseline_cost,
            seconds=round(self.seconds, 3),
            warnings=self.warnings,
        )

    @property
    def _identity(self) -> str:
        """Settings that a checkpoint belongs to, as JSON text."""
        return json.dumps(self.request.document())

    def _calibration(self) -> Iterator[Structure]:
        config = self.request.config
        return (
            to_device(inputs, config.device)
            for inputs, _ in self.task.batches("calibration", batch_size=config.eval_batch)
        )

    def _score(self, network: nn.Module, split: SplitName) -> float:
        return network_score(network, self.task, split, batch_size=self.request.config.eval_batch)

    def _warnings(self, initializer: Initializer) -> Iterator[str]:
        """Yield problems of the float network and of its trace."""
        warning = float_warning(self.task, self.start["search_accuracy_fp32"], "search")
        if warning:
            yield warning
        if any(width is not None for width in self.policy.a_bits) and initializer.warning:
            yield initializer.warning
