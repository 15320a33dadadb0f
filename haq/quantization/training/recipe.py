"""Learning rates and weight decay by bit width."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from haq.network.layers import Trace
from haq.policy import PolicyBits
from haq.quantization.training.config import FinetuneConfig

FLOAT_BITS = 8
"""Weights in float are trained with the rates of 8 bits."""
FEW_BITS, FEWEST_BITS = 4, 2
LR_FEW_BITS, LR_MANY_BITS = 0.01, 0.001
"""Learning rates of SGD at 4 bits, and at 8 bits or more (LSQ, Esser et al. 2020)."""
ADAM_SHARE = 0.1
"""Ratio of AdamW's learning rate to that of SGD."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Learning rates and weight decay of one policy.

    Attributes:
        lr: Learning rate of weights.
        scale_lr: Learning rate of quantizers, relative to the initial scale, or to half the range for shifts.
        weight_decay: Weight decay of weights.
    """

    lr: float
    scale_lr: float
    weight_decay: float


def mean_weight_bits(trace: Trace, bits: PolicyBits) -> float:
    """Compute the mean bits of all quantized weights.

    Args:
        trace: Trace of the network.
        bits: (w_bits, a_bits) of every layer.

    Returns:
        The mean, weighted by the number of weights; 8 if none is quantized.
    """
    pairs = [(layer.weight_count, w) for layer, w in zip(trace.layers, bits[0], strict=True) if w is not None]
    count = sum(weights for weights, _ in pairs)
    return sum(weights * w for weights, w in pairs) / count if count else FLOAT_BITS


def resolve_rates(config: FinetuneConfig, mean_bits: float) -> Rates:
    """Choose learning rates and weight decay: those of the configuration, else by the mean bits of the weights.

    The default learning rate is interpolated geometrically between that at 4 bits and that at 8 bits, and extrapolated
    down to 2 bits.

    Args:
        config: Settings of fine-tuning.
        mean_bits: Mean bits of all weights.

    Returns:
        The rates.

    Examples:
        >>> resolve_rates(FinetuneConfig(), 4.0).lr, resolve_rates(FinetuneConfig(weight_decay=1e-4), 3.0).weight_decay
        (0.01, 5e-05)
    """
    more = (min(max(mean_bits, FEWEST_BITS), FLOAT_BITS) - FEW_BITS) / (FLOAT_BITS - FEW_BITS)
    usual = LR_FEW_BITS * (LR_MANY_BITS / LR_FEW_BITS) ** more
    lr = config.lr or usual * (ADAM_SHARE if config.optimizer == "adamw" else 1.0)
    decay = config.weight_decay * 2.0 ** -max(FEW_BITS - mean_bits, 0.0)
    return Rates(lr, config.scale_lr, decay)


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Scale all gradients together so that their norm is at most a limit.

    Args:
        parameters: Parameters with gradients.
        most: Largest norm; 0 for no limit.
    """
    if most:
        nn.utils.clip_grad_norm_(list(parameters), most)
