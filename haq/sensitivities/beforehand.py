"""What a search may know of the layers before its first policy, by the names of `--prior`."""

from collections.abc import Callable, Mapping

from haq.config import PriorName
from haq.problem import Network
from haq.sensitivities.fisher import network_fisher
from haq.sensitivities.layer_losses import LayerLosses
from haq.sensitivities.measured import network_sensitivities

PRIORS: Mapping[PriorName, Callable[[Network], LayerLosses]] = {
    "fisher": network_fisher,
    "measured": network_sensitivities,
}


def known_beforehand(network: Network, which: PriorName) -> LayerLosses | None:
    """What every change of a prepared network alone loses; None where nothing is to be known."""
    return PRIORS[which](network) if which in PRIORS else None
