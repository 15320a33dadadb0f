"""What tools for FPGAs cannot take of a network, by the rules of the deployment target of the same name."""

from collections.abc import Iterator
from typing import get_args

import torch

from haq.experiment.target_quantizers import are_powers_of_two
from haq.exporters.deployable import Deployable
from haq.exporters.formats import ToolchainName
from haq.quantization.operands import OperandKey
from hardware_sim.deployment_target import DeploymentTarget
from hardware_sim.target_catalog import load_target

TOOLCHAINS: tuple[ToolchainName, ...] = get_args(ToolchainName)


def obstacles(network: Deployable, toolchain: ToolchainName) -> Iterator[str]:
    """Find what a toolchain cannot take.

    Args:
        network: Network with its policy.
        toolchain: Name of the toolchain.

    Yields:
        A line for every obstacle: the layer, what it has, and what the toolchain would take.
    """
    target = load_target(toolchain)
    for place, layer in enumerate(network.policy.layers):
        for obstacle in _of_layer(network, place, target):
            yield f"{layer.name} {obstacle}"
    for part in network.trace.refused:
        if part.macs:
            yield f"{part.name} {part.reason}; replace it, or leave it to a processor"


def _of_layer(network: Deployable, place: int, target: DeploymentTarget) -> Iterator[str]:
    bits, remedy = network.policy.layers[place], f"search with --deploy {target.name}"
    names = [layer.name for layer in network.trace.layers]
    is_end = place == 0 or names[place] in network.trace.heads
    if bits.kind not in target.layer_kinds:
        yield f"is {bits.kind}, and {target.name} takes {', '.join(target.layer_kinds)}; replace it"
        return
    if bits.w_bits is None or bits.a_bits is None:
        if not target.float_layers:
            yield f"is left in float; {remedy}"
        return
    if not target.allows(bits.w_bits, bits.a_bits, is_end=is_end):
        yield f"has {bits.w_bits}/{bits.a_bits} bits, not {target.legal_text(is_end=is_end)}; {remedy}"
    yield from _of_activation(network, (place, "input"), target)
    if not network.quantizers.has_weights(place):
        yield from _of_activation(network, (place, "second_input"), target)
        return
    yield from _of_weights(network, place, target)


def _of_activation(network: Deployable, operand: OperandKey, target: DeploymentTarget) -> Iterator[str]:
    layer, remedy = network.policy.layers[operand[0]], f"search with --deploy {target.name}"
    quantizer = network.quantizers.of_operand(operand, (layer.w_bits, layer.a_bits))
    if quantizer is None:
        return
    what = "input" if operand[1] == "input" else "second operand"
    if quantizer.zero_point and not target.zero_points:
        yield f"has the zero point {quantizer.zero_point} at its {what}, not 0; {remedy}"
    if "activations" in target.power_of_two_scales and not are_powers_of_two(torch.tensor(quantizer.scale)):
        yield f"has the {what} scale {quantizer.scale:.4g}, no power of two; {remedy}"


def _of_weights(network: Deployable, place: int, target: DeploymentTarget) -> Iterator[str]:
    w_bits, remedy = network.policy.w_bits[place], f"search with --deploy {target.name}"
    if w_bits is None:
        return
    scale = network.quantizers.codes(place, w_bits).scale
    if "weights" in target.power_of_two_scales and not are_powers_of_two(scale):
        yield f"has weight scales that are no powers of two; {remedy}"
    elif target.weight_granularity == "per_tensor" and bool((scale != scale[0]).any()):
        yield f"has a weight scale for each channel, not one; {remedy}"
