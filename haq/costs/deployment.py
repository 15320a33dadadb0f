"""Rules of a deployment target for layers, bits and stored weights."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from haq.config import SearchConfig
from haq.errors import UserError
from haq.layer_bits import LayerBits
from hardware_sim.cost import Bits, CostTable, FloatArray, Limit, UnsupportedError
from hardware_sim.deployment_target import DeploymentTarget
from hardware_sim.layer import Layer
from hardware_sim.target_catalog import load_target
from hardware_sim.weight_storage import file_weight_bytes

FLASH = "flash"
"""Name of a device's limit of the memory that holds the weights."""


def deployment_target(config: SearchConfig) -> DeploymentTarget | None:
    """Load the target of a configuration.

    Args:
        config: Settings with the name or file of the target.

    Returns:
        The target; None if the settings name none.

    Raises:
        DescriptionError: The target is unknown, or its file invalid.
    """
    return None if config.deploy is None else load_target(config.deploy)


def deployed_table(table: CostTable, target: DeploymentTarget | None) -> CostTable:
    """Return the costs of layers as a target stores them.

    Size, and a limit of flash, count the bytes in the target's files; other costs are those of the device.

    Args:
        table: Costs on a device.
        target: Deployment target; None for none.

    Returns:
        The costs; the same table without a target.

    Raises:
        UnsupportedError: The target does not compute a kind of layer; the message names the layer.
    """
    if target is None:
        return table
    for layer in table.layers:
        if layer.kind not in target.layer_kinds:
            kinds = ", ".join(target.layer_kinds)
            raise UnsupportedError(f"{target.name} does not take layer {layer.name!r} ({layer.kind}), only {kinds}")
    storage = target.weight_storage
    size = table.weight_bytes if storage == "packed" else file_weight_bytes(table.layers, storage)
    limits = tuple(_stored(limit, size) for limit in table.limits)
    return replace(table, weight_bytes=size, limits=limits, notes=(*table.notes, *target.notes))


def _stored(limit: Limit, size: FloatArray) -> Limit:
    """Return a limit that counts the bytes of stored weights if it is that of flash."""
    return replace(limit, table=size) if limit.name == FLASH else limit


def require_deployable(
    target: DeploymentTarget | None, policy: Sequence[LayerBits], *, layers: Sequence[Layer], heads: Collection[str]
) -> None:
    """Check that a target takes the bits of a policy.

    Args:
        target: Deployment target; None for none, which takes everything.
        policy: Bits of all layers.
        layers: Layers of the network.
        heads: Names of the layers that produce outputs of the network.

    Raises:
        UserError: A layer has other bits; the message names it, its bits and legal ones.
    """
    if target is None:
        return
    ends = end_layers(layers, heads)
    for bits in policy:
        is_end = bits.name in ends
        if not target.allows(bits.w_bits, bits.a_bits, is_end=is_end):
            raise UserError(
                f"layer {bits.name!r} has {_text(bits.w_bits)} weights and {_text(bits.a_bits)} activations, which "
                f"--deploy {target.name} does not take; legal are {target.legal_text(is_end=is_end)}"
            )


def end_layers(layers: Sequence[Layer], heads: Collection[str]) -> frozenset[str]:
    """Return the names of the first layer with weights and of the layers that produce outputs of the network.

    Args:
        layers: Layers of the network.
        heads: Names of the layers that produce outputs.

    Returns:
        The names.
    """
    first = next((layer.name for layer in layers if layer.has_weights), None)
    return frozenset(heads if first is None else {first, *heads})


def _text(bits: Bits) -> str:
    return "float" if bits is None else f"{bits}-bit"
