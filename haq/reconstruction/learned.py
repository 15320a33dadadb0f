"""What comes of learning: the quantizers and corrections of one policy, found and put in place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from haq.evaluation.protocols import Engine
from haq.execution.progress import SILENT, Watcher
from haq.experiment.problem import Network, PricedModel
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import Quantizers
from haq.reconstruction.config import ReconstructionConfig
from haq.reconstruction.learning import Reconstruction, calibration_batches, output_spreads
from haq.reconstruction.network import LearnedNetwork

SPREAD_IMAGES = 64
"""Few are enough: spreads are units, no targets."""


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """The quantizers and corrections of a policy, as tensors by name."""

    bits: PolicyBits
    quantizers: Mapping[str, Tensor]
    corrections: Corrections

    def restore(self, _: PricedModel, quantizers: Quantizers, engine: Engine) -> Sequence[PolicyBits]:
        """Put them in the place of what calibration would give."""
        quantizers.load(self.quantizers, *self.bits)
        engine.store(self.bits, self.corrections)
        return (self.bits,)

    def tensors(self, layer_names: Sequence[str]) -> dict[str, Tensor]:
        """Everything by name, as a run keeps it."""
        return {**self.quantizers, **self.corrections.tensors(tuple(layer_names))}


def learn_policy(
    network: Network,
    bits: PolicyBits,
    *,
    config: ReconstructionConfig,
    seed: int = 0,
    watcher: Watcher = SILENT,
) -> Learned:
    """Let the quantizers of a policy learn from the calibration images; `network` has the torch engine."""
    model, trace, task = network.priced.model, network.priced.trace, network.task
    device = next(model.parameters()).device
    images = next(calibration_batches(task, batch_size=SPREAD_IMAGES, seed=seed)).to(device)
    spreads = output_spreads(model, trace, images)
    learner = LearnedNetwork(
        model,
        trace,
        network.quantizers,
        bits=bits,
        corrections=network.engine.corrections(bits),
        spreads=spreads,
    )
    batches = (inputs.to(device) for inputs in calibration_batches(task, batch_size=config.batch_size, seed=seed))
    Reconstruction(learner, spreads, config=config).learn(batches, watcher)
    with torch.no_grad():
        corrections = learner.corrections()
    return Learned(bits, network.quantizers.tensors(*bits) | learner.quantizer_tensors(), corrections)
