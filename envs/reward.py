"""Reward functions of an episode."""

from collections.abc import Callable


def accuracy_reward(accuracy_fp32: float, *, scale: float = 0.1) -> Callable[[float], float]:
    """Create a reward function: `scale` times the change of accuracy in percentage points (HAQ, CVPR 2019, equation 5).

    Args:
        accuracy_fp32: Accuracy of the float network, in [0, 1].
        scale: Factor of the reward.

    Returns:
        Function from the accuracy of a policy, in [0, 1], to its reward.

    Example:
        >>> round(accuracy_reward(0.90)(0.85), 6)
        -0.5
    """
    return lambda accuracy: scale * 100 * (accuracy - accuracy_fp32)


def fidelity_reward(relative_output_error: float) -> float:
    """Return the negated relative output error.

    The error is the power of the difference between quantized and float outputs, divided by the power of the float
    outputs (1/SQNR).

    Args:
        relative_output_error: The error, at least 0.

    Returns:
        The reward.

    Example:
        >>> fidelity_reward(0.25)
        -0.25
    """
    return -relative_output_error
