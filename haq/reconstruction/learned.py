"""Learning of the quantizers and corrections of one policy."""

from collections.abc import Iterator

import torch

from haq.evaluation.protocols import CorrectingEngine
from haq.execution.progress import SILENT, Watcher
from haq.execution.structures import Structure, to_device
from haq.execution.termination import termination_deferred
from haq.experiment.problem import Network
from haq.experiment.quantized_policy import QuantizedPolicy, describe_quantizers
from haq.policy import Policy
from haq.reconstruction.checkpoint import Checkpoints
from haq.reconstruction.config import ReconstructionConfig
from haq.reconstruction.learning import Reconstruction, calibration_batches, output_spreads
from haq.reconstruction.network import LearnedNetwork

SPREAD_IMAGES = 64
"""Number of calibration images for the standard deviations of outputs, which are only units of errors."""


def learn_policy(
    network: Network,
    policy: Policy,
    *,
    config: ReconstructionConfig,
    seed: int = 0,
    watcher: Watcher = SILENT,
    checkpoints: Checkpoints | None = None,
) -> QuantizedPolicy:
    """Learn the quantizers and corrections of a policy from the calibration images.

    Args:
        network: Network with the torch engine.
        policy: Bits of all layers.
        config: Settings of learning.
        seed: Seed of the order of the images.
        watcher: Receives the steps.
        checkpoints: Checkpoint to continue from, which is kept up to date; None for none.

    Returns:
        The policy, in version 2, with the learned quantizers and corrections.

    Raises:
        UserError: The loss is NaN or infinite, or the checkpoint is damaged.
    """
    assert isinstance(network.engine, CorrectingEngine), "the torch engine"
    bits = (policy.w_bits, policy.a_bits)
    model, trace, task = network.priced.model, network.priced.trace, network.task
    device = next(model.parameters()).device
    images = to_device(next(calibration_batches(task, batch_size=SPREAD_IMAGES, seed=seed)), device)
    spreads = output_spreads(model, trace, images)
    learner = LearnedNetwork(
        model,
        trace,
        network.quantizers,
        bits=bits,
        statistics=network.engine.corrections(bits).statistics,
        spreads=spreads,
    )
    batches = calibration_batches(task, batch_size=config.batch_size, seed=seed)
    on_device = (to_device(inputs, device) for inputs in batches)
    _learn(Reconstruction(learner, spreads, config=config), on_device, checkpoints, watcher)
    with torch.no_grad():
        corrections = learner.corrections()
    names = tuple(layer.name for layer in policy.layers)
    tensors = network.quantizers.tensors(*bits) | learner.quantizer_tensors() | corrections.tensors(names)
    described = describe_quantizers(policy, tensors, trace.layers)
    return QuantizedPolicy(described.in_version_2(weights=network.priced.weights), tensors)


def _learn(
    learning: Reconstruction, batches: Iterator[Structure], checkpoints: Checkpoints | None, watcher: Watcher
) -> None:
    """Run the remaining steps; SIGTERM ends them after a checkpoint."""
    if checkpoints is None:
        learning.learn(batches, watcher)
        return
    checkpoints.restore(learning)
    with termination_deferred() as terminated:

        def after_step() -> bool:
            checkpoints.save_if_due(learning)
            return not terminated()

        learning.learn(batches, watcher, after_step=after_step)
        checkpoints.save(learning)
