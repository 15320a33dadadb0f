"""Weights that jump to and fro between two codes, and never arrive: dampened or frozen.

Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", 2022 (arXiv 2203.08086). Depthwise networks at 4
bits and fewer suffer most.
"""

from dataclasses import dataclass, field
from math import cos, pi

import torch
from torch import Tensor

from haq.quantization.training.network import TrainableNetwork

FREQUENCY_MOMENTUM = 0.01
MEAN_MOMENTUM = 0.05
"""Of the mean code; larger, so that it is no longer that of the first step when a weight is frozen."""
FIRST_LIMIT, LAST_LIMIT = 0.04, 0.011
"""A weight that oscillates in more than this share of the steps is frozen; the limit falls along a cosine."""


def ramp(first: float, last: float, progress: float) -> float:
    """From the first to the last along a cosine, for a progress from 0 to 1.

    >>> ramp(0.0, 2.0, 0.5)
    1.0
    """
    return last + (first - last) * (1 + cos(pi * progress)) / 2


def dampening(network: TrainableNetwork) -> Tensor:
    """Sum of squared distances of all weights within their grid from the level that they are rounded to.

    It pulls weights to the middle of their bin, where they do not oscillate; to the levels it has no gradient.
    """
    total = torch.zeros((), device=next(network.parameters()).device)
    for weight, quantizer in network.quantized_weights():
        with torch.no_grad():
            level = quantizer(weight)
            inside = (level - weight).abs() <= quantizer.aligned_scale(weight) / 2
            level = torch.where(inside, level, weight)
        total = total + (level - weight).square().sum()
    return total


@dataclass(slots=True, eq=False)
class _Watched:
    """One parameter's weights, each for itself."""

    codes: Tensor
    """int8"""
    direction: Tensor
    """int8: +1 or -1, the way that the code moved last; 0 before it first did."""
    frequency: Tensor
    """Moving average of 'moved back', in [0, 1]."""
    mean: Tensor
    """Moving average of the code."""
    frozen: Tensor
    """bool"""


@dataclass(slots=True, eq=False)
class Freezer:
    """Freezes weights that oscillate at the code where they mostly are; call `step` after each of the optimizer's."""

    network: TrainableNetwork
    _watched: list[_Watched] = field(default_factory=list)

    @torch.no_grad()
    def step(self, progress: float) -> None:
        """Look at all weights once; `progress` goes from 0 to 1."""
        limit = ramp(FIRST_LIMIT, LAST_LIMIT, progress)
        pairs = list(self.network.quantized_weights())
        if not self._watched:
            self._watched = [_fresh(quantizer.codes(weight)) for weight, quantizer in pairs]
            return
        for (weight, quantizer), watched in zip(pairs, self._watched, strict=True):
            _update(watched, quantizer.codes(weight), limit)
            held = watched.mean.round() * quantizer.aligned_scale(weight)
            weight.copy_(torch.where(watched.frozen, held.to(weight.dtype), weight))

    @property
    def frozen(self) -> float:
        """The share of weights that are frozen."""
        count = sum(watched.frozen.numel() for watched in self._watched)
        return sum(int(watched.frozen.sum()) for watched in self._watched) / max(count, 1)

    def state_dict(self) -> dict[str, Tensor]:
        """All that the next step depends on."""
        names = _Watched.__slots__
        return {f"{place}.{name}": getattr(each, name) for place, each in enumerate(self._watched) for name in names}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where `state_dict` was taken, wherever its tensors lie."""
        weights = [weight for weight, _ in self.network.quantized_weights()] if state else []
        self._watched = [
            _Watched(**{name: state[f"{place}.{name}"].to(weight.device) for name in _Watched.__slots__})
            for place, weight in enumerate(weights)
        ]


def _fresh(codes: Tensor) -> _Watched:
    small = codes.to(torch.int8)
    zeros = torch.zeros_like(codes, dtype=torch.float32)
    return _Watched(small, torch.zeros_like(small), zeros, codes.float(), torch.zeros_like(codes, dtype=torch.bool))


def _update(watched: _Watched, codes: Tensor, limit: float) -> None:
    move = (codes - watched.codes).sign().to(torch.int8)
    back = (move != 0) & (move == -watched.direction)
    watched.frequency.lerp_(back.float(), FREQUENCY_MOMENTUM)
    watched.direction = torch.where(move != 0, move, watched.direction)
    # A frozen weight keeps the mean that it was frozen at.
    watched.mean = torch.where(watched.frozen, watched.mean, watched.mean.lerp(codes.float(), MEAN_MOMENTUM))
    watched.frozen |= watched.frequency > limit
    watched.codes = codes.to(torch.int8)
