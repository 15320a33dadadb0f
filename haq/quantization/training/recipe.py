"""Learning rates by bits."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from haq.network.layers import Trace
from haq.policy import PolicyBits
from haq.quantization.training.config import FinetuneConfig

FLOAT_BITS = 8
"""Weights in float are trained as those of 8 bits."""
FEW_BITS, FEWEST_BITS = 4, 2
LR_FEW_BITS, LR_MANY_BITS = 0.01, 0.001
"""Of SGD at 4 and from 8 bits on (LSQ, Esser et al. 2020)."""
ADAM_SHARE = 0.1
"""AdamW's rate over that of SGD."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a configuration came to for one policy."""

    lr: float
    scale_lr: float
    """In parts of the scale that a quantizer starts from; of half its range for the shift."""
    weight_decay: float


def mean_weight_bits(trace: Trace, bits: PolicyBits) -> float:
    """Of all weights that are quantized, each counted once; 8 where none is."""
    pairs = [(layer.weight_count, w) for layer, w in zip(trace.layers, bits[0], strict=True) if w is not None]
    count = sum(weights for weights, _ in pairs)
    return sum(weights * w for weights, w in pairs) / count if count else FLOAT_BITS


def resolve_rates(config: FinetuneConfig, mean_bits: float) -> Rates:
    """Rates that were given, else those of the mean weight bits: from 2 to 8 bits in equal ratios.

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
    """Shorten all gradients together to a length of `most`; 0 leaves them."""
    if most:
        nn.utils.clip_grad_norm_(list(parameters), most)
