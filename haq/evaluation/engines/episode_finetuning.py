"""Construction of the engine that fine-tunes each policy for a few steps during a search."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import nn

from haq.errors import UserError
from haq.evaluation.engines.finetuned import EpisodeEngine
from haq.execution.structures import Structure, to_device
from haq.network.layers import Trace
from haq.quantization.training.config import FinetuneConfig
from haq.quantization.training.initialization import Initializer
from haq.tasks.base import Task

if TYPE_CHECKING:
    from haq.config import SearchConfig

EPISODE_BATCH = 64
"""Largest number of items in a training batch."""
NORM_IMAGES = 256
"""Largest number of train images for the re-estimation of batch norms."""


def episode_engine(config: "SearchConfig", model: nn.Module, trace: Trace, *, task: Task) -> EpisodeEngine:
    """Create the engine that fine-tunes each policy for `episode_finetune_steps` steps before it is evaluated.

    Args:
        config: Configuration of the search.
        model: Float network, on the device of the configuration.
        trace: Its trace.
        task: Task with a train split.

    Returns:
        The engine.

    Raises:
        UserError: The task or the configuration does not allow training.
    """
    require_trainable(config, task, flag="--episode-finetune-steps")
    batch_size = min(EPISODE_BATCH, task.size("train"))
    norm_images = min(NORM_IMAGES, config.episode_finetune_steps * batch_size)
    learning = FinetuneConfig(learn=config.episode_finetune, batch_size=batch_size, norm_images=norm_images)

    def calibration() -> Iterable[Structure]:
        return (
            to_device(inputs, config.device) for inputs, _ in task.batches("calibration", batch_size=config.eval_batch)
        )

    initializer = Initializer(model, trace, calibration, shift=learning.shift)
    return EpisodeEngine(
        model, initializer, task, config=learning, steps=config.episode_finetune_steps, seed=config.seed
    )


def require_trainable(config: "SearchConfig", task: Task, *, flag: str) -> None:
    """Require a train split, and quantizers and an engine that can be trained.

    Args:
        config: Configuration of the search.
        task: Task of the network.
        flag: Flag that requests training, for the message.

    Raises:
        UserError: The task has no train split, the quantizer is not linear, or the engine is onnxruntime.
    """
    if not task.size("train"):
        raise UserError(f"{flag} needs a train split, which {task.name} does not have; add 'train' to its data sets")
    if config.quantizer != "linear":
        raise UserError(f"{flag} learns scales, and {config.quantizer} codebooks have none; use --quantizer linear")
    if config.engine == "onnxruntime":
        raise UserError(f"{flag} learns in torch; use --engine torch")
