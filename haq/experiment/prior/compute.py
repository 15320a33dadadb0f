"""What a search may know of the layers before its first policy, by the names of `--prior`."""

from collections.abc import Callable, Mapping

from haq.config import PriorName
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.prior.measured import network_sensitivities
from haq.experiment.problem import Network

PRIORS: Mapping[PriorName, Callable[[Network], LayerLosses]] = {
    "fisher": network_fisher,
    "measured": network_sensitivities,
}


def compute_prior(network: Network, which: PriorName) -> LayerLosses | None:
    """What every change of a prepared network alone loses; None where nothing is to be known."""
    return PRIORS[which](network) if which in PRIORS else None
