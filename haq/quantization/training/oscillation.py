"""Dampening and freezing of weights that oscillate between two codes.

Nagel et al., "Overcoming Oscillations in Quantization-Aware Training", 2022 (arXiv 2203.08086). Depthwise networks at 4
bits and fewer are affected most.
"""

from dataclasses import dataclass, field
from math import cos, pi

import torch
from torch import Tensor

from haq.quantization.training.network import TrainableNetwork

FREQUENCY_MOMENTUM = 0.01
"""Momentum of the oscillation frequency, per step."""
MEAN_MOMENTUM = 0.05
"""Momentum of the mean code; larger, so that the mean no longer depends on the first step when a weight is frozen."""
FIRST_LIMIT, LAST_LIMIT = 0.04, 0.011
"""Oscillation frequency above which a weight is frozen, at the beginning and the end; a cosine schedule between."""


def ramp(first: float, last: float, progress: float) -> float:
    """Interpolate between two values along a cosine.

    Args:
        first: Value at progress 0.
        last: Value at progress 1.
        progress: Progress in [0, 1].

    Returns:
        The interpolated value.

    Examples:
        >>> ramp(0.0, 2.0, 0.5)
        1.0
    """
    return last + (first - last) * (1 + cos(pi * progress)) / 2


def dampening(network: TrainableNetwork) -> Tensor:
    """Compute the sum of squared distances of all unclipped weights from the level that they are rounded to.

    As a loss it pulls weights to the middle of their bin, where they do not oscillate. Levels get no gradient from it.

    Args:
        network: Network that is trained.

    Returns:
        The sum, [].
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
    """Oscillation statistics of one parameter, per weight.

    Attributes:
        codes: Codes of the last step, int8.
        direction: Direction of the last change of the code, int8: +1 or -1, 0 if there was none.
        frequency: Moving average of the indicator that the code changed back, in [0, 1].
        mean: Moving average of the code.
        frozen: Whether the weight is frozen.
    """

    codes: Tensor
    direction: Tensor
    frequency: Tensor
    mean: Tensor
    frozen: Tensor


@dataclass(slots=True, eq=False)
class Freezer:
    """Freezing of oscillating weights at their most frequent code; call `step` after each step of the optimizer.

    Attributes:
        network: Network that is trained.
    """

    network: TrainableNetwork
    _watched: list[_Watched] = field(default_factory=list)

    @torch.no_grad()
    def step(self, progress: float) -> None:
        """Update the statistics of all weights, and freeze those that oscillate.

        Args:
            progress: Progress of the training in [0, 1].
        """
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
        """Share of weights that are frozen."""
        count = sum(watched.frozen.numel() for watched in self._watched)
        return sum(int(watched.frozen.sum()) for watched in self._watched) / max(count, 1)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state that the next step depends on."""
        names = _Watched.__slots__
        return {f"{place}.{name}": getattr(each, name) for place, each in enumerate(self._watched) for name in names}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore the state.

        Args:
            state: Result of `state_dict`, with tensors on any device.
        """
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
    # The mean of a frozen weight is not updated.
    watched.mean = torch.where(watched.frozen, watched.mean, watched.mean.lerp(codes.float(), MEAN_MOMENTUM))
    watched.frozen |= watched.frequency > limit
    watched.codes = codes.to(torch.int8)
