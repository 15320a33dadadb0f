"""What an episode earns."""

from collections.abc import Callable


def accuracy_reward(accuracy_fp32: float, *, scale: float = 0.1) -> Callable[[float], float]:
    """`scale` times the accuracy lost or won, in percentage points (HAQ, CVPR 2019, equation 5).

    >>> round(accuracy_reward(0.90)(0.85), 6)
    -0.5
    """
    return lambda accuracy: scale * 100 * (accuracy - accuracy_fp32)


def fidelity_reward(noise: float) -> float:
    """Minus the power of the noise that quantization adds to the outputs, in parts of the float outputs' own.

    >>> fidelity_reward(0.25)
    -0.25
    """
    return -noise
