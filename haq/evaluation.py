"""From a policy to its accuracy, each policy once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from haq.quantized_model import QuantizedModel
from haq.tasks.base import SplitName, Task
from hardware_sim.cost import Bits

PolicyBits = tuple[tuple[Bits, ...], tuple[Bits, ...]]
"""(w_bits, a_bits), one of each a layer."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a policy is worth on one split."""

    accuracy: float
    """The task's score; a fraction in [0, 1] for accuracies."""
    divergence: float
    """Mean KL divergence, in nats, of the quantized network's outputs from the float network's."""


class Engine(Protocol):
    """Something that runs the network with a policy on it."""

    name: str

    def outputs(self, bits: PolicyBits | None) -> Callable[[Tensor], Tensor]:
        """The network with these bits, or in float, as a function from inputs to outputs."""
        ...


class TorchEngine:
    """Fake quantization in PyTorch: the reference."""

    name = "torch"

    def __init__(self, model: QuantizedModel) -> None:
        self._model = model

    def outputs(self, bits: PolicyBits | None) -> Callable[[Tensor], Tensor]:
        if bits is None:
            return self._model.model
        self._model.set_bits(*bits)
        return self._model


class Evaluator:
    """Evaluates policies on one split of a task; knows every answer that it gave.

    `evaluations` counts the policies that were really run, `forward_images` the images, float passes included.
    """

    def __init__(self, engine: Engine, task: Task, split: SplitName, *, batch_size: int = 256) -> None:
        if not task.size(split):
            raise ValueError(f"{task.name} has no {split} split")
        self._engine, self._task, self._split, self._batch_size = engine, task, split, batch_size
        self._known: dict[PolicyBits, Evaluation] = {}
        self.evaluations = 0
        self.forward_images = 0
        self._log_probabilities: list[Tensor] = []
        self.accuracy_fp32 = self._run(None).accuracy

    def evaluate(self, w_bits: Sequence[Bits], a_bits: Sequence[Bits]) -> Evaluation:
        """Accuracy and divergence of a policy; the second time it is asked for, from memory."""
        bits = (tuple(w_bits), tuple(a_bits))
        if bits not in self._known:
            self._known[bits] = self._run(bits)
            self.evaluations += 1
        return self._known[bits]

    def remember(self, w_bits: Sequence[Bits], a_bits: Sequence[Bits], evaluation: Evaluation) -> None:
        """Take an answer over that was found in an earlier session."""
        self._known[tuple(w_bits), tuple(a_bits)] = evaluation

    @torch.no_grad()
    def _run(self, bits: PolicyBits | None) -> Evaluation:
        metric, network, divergence, images = self._task.metric(), self._engine.outputs(bits), 0.0, 0
        for number, (inputs, targets) in enumerate(self._task.batches(self._split, batch_size=self._batch_size)):
            outputs = network(inputs)
            metric.update(outputs, targets)
            divergence += self._divergence(number, outputs, is_float=bits is None)
            images += len(inputs)
        self.forward_images += images
        return Evaluation(accuracy=metric.compute(), divergence=divergence / images)

    def _divergence(self, batch: int, outputs: Tensor, *, is_float: bool) -> float:
        """Sum over the batch; the float pass only takes the outputs down."""
        log_probabilities = F.log_softmax(outputs.float().flatten(1), dim=1)
        if is_float:
            self._log_probabilities.append(log_probabilities)
            return 0.0
        reference = self._log_probabilities[batch]
        return F.kl_div(log_probabilities, reference, reduction="sum", log_target=True).item()
