"""What a search may know of the layers before its first policy, by the names of `--prior`."""

from collections.abc import Callable, Mapping
from typing import Literal

from haq.problem import Network
from haq.sensitivities.fisher import network_fisher
from haq.sensitivities.layer_losses import LayerLosses
from haq.sensitivities.measured import network_sensitivities

PRIORS: Mapping[Literal["fisher", "measured"], Callable[[Network], LayerLosses]] = {
    "fisher": network_fisher,
    "measured": network_sensitivities,
}


def known_beforehand(network: Network, which: Literal["fisher", "measured", "none"]) -> LayerLosses | None:
    """What every change of a prepared network alone loses; None where nothing is to be known."""
    return None if which == "none" else PRIORS[which](network)
