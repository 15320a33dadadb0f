"""Priors of a search by the names of `--prior`: the loss of quantizing each layer alone."""

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
    """Estimate or measure the loss of quantizing each layer alone at each width.

    Args:
        network: The prepared network.
        which: Kind of prior.

    Returns:
        Relative output errors of all layers at all widths; None for `none`.
    """
    return PRIORS[which](network) if which in PRIORS else None
