"""Check of stored quantizers against the rules of a deployment target."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from haq.errors import UserError
from hardware_sim.deployment_target import DeploymentTarget

_ZERO_POINTS, _SCALES = (".input.zero_point", ".second_input.zero_point"), (".input.scale", ".second_input.scale")
"""Ends of the names of parameters of activations."""


def require_legal_quantizers(target: DeploymentTarget | None, tensors: Mapping[str, Tensor]) -> None:
    """Check that a target takes the quantizers of a policy.

    Args:
        target: Deployment target; None for none, which takes everything.
        tensors: Parameters of quantizers by name, such as `LAYER.weight.scale` and `LAYER.input.zero_point`.

    Raises:
        UserError: A quantizer breaks a rule; the message names its layer and the rule.
    """
    if target is None:
        return
    for name, tensor in tensors.items():
        for problem in _problems(target, name, tensor):
            layer, kind, _ = name.rsplit(".", 2)
            raise UserError(
                f"the {kind} quantizer of layer {layer!r} has {problem}, which --deploy {target.name} does not take; "
                "make the policy with this --deploy"
            )


def _problems(target: DeploymentTarget, name: str, tensor: Tensor) -> Iterator[str]:
    if name.endswith(_ZERO_POINTS) and not target.zero_points and bool((tensor != 0).any()):
        yield "a zero point"
    if name.endswith(".weight.scale"):
        if target.weight_granularity == "per_tensor" and bool((tensor != tensor.flatten()[0]).any()):
            yield "a scale for each channel"
        if "weights" in target.power_of_two_scales and not are_powers_of_two(tensor):
            yield "scales that are no powers of two"
    if name.endswith(_SCALES) and "activations" in target.power_of_two_scales and not are_powers_of_two(tensor):
        yield "a scale that is no power of two"


def are_powers_of_two(scale: Tensor) -> bool:
    """Check whether all scales are powers of two.

    Args:
        scale: Scales above 0, of any shape.

    Returns:
        Whether they are.

    Examples:
        >>> are_powers_of_two(torch.tensor([0.25, 2.0])), are_powers_of_two(torch.tensor(0.3))
        (True, False)
    """
    return bool((torch.frexp(scale).mantissa == 0.5).all())
