"""Simulated cost of policies."""

from typing import Any

from torch import nn

from haq.config import search_config
from haq.costs.deployment import deployment_target, require_deployable
from haq.costs.simulation import policy_bits, simulation
from haq.experiment.loading import load_priced
from haq.layer_bits import uniform_bits
from haq.policy import Policy


def simulate(
    model: nn.Module | str = "digits_cnn",
    policy: Policy | None = None,
    *,
    w_bits: int | None = 8,
    a_bits: int | None = 8,
    exclude_first_last: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Simulate latency, energy, size and bit operations of a policy, or of uniform bits, on a device.

    Args:
        model: Network or its name.
        policy: Bits of all layers; None for uniform bits.
        w_bits: Uniform bits of weights, 1 to 8; None leaves them in float.
        a_bits: Uniform bits of input activations, 1 to 8; None leaves them in float.
        exclude_first_last: Whether to leave the first and the last layer out of layers and totals.
        settings: Fields of `haq.config.SearchConfig`, such as `hardware`, `batch` and `input`.

    Returns:
        The document that `haq simulate --json` prints, with `layers` and `totals`. Latencies are in seconds and
        energies in joules, of the whole batch; values that the device does not model are None.

    Raises:
        UserError: The network cannot be priced, or the policy does not fit it.
        UnsupportedError: The device has no cost for the bits.
        DescriptionError: The device or the deployment target does not exist, or its file is invalid.

    Examples:
        >>> document = simulate("digits_cnn", hardware="bismo-edge", w_bits=4, a_bits=4)
        >>> document["totals"]["weight_bytes"] == sum(layer["weight_bytes"] for layer in document["layers"])
        True
    """
    name = model if isinstance(model, str) else type(model).__name__
    config = search_config(model=name, **settings)
    priced = load_priced(config, model=None if isinstance(model, str) else model)
    layers = priced.layers
    bits = uniform_bits(layers, w_bits=w_bits, a_bits=a_bits) if policy is None else policy_bits(layers, policy, name)
    require_deployable(deployment_target(config), bits, layers=layers, heads=priced.heads)
    refused = priced.refused
    return simulation(name, priced.table, bits, refused=refused, exclude_first_last=exclude_first_last).to_json()
