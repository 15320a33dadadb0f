"""Priors of a search by the names of `--prior`: the loss of quantizing each layer alone."""

from collections.abc import Callable, Mapping
from functools import partial

from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.prior.measured import network_sensitivities
from haq.experiment.problem import Network
from haq.experiment.stored_preparation import ensure_losses, preparation_key
from haq.settings import PriorName

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
    if which not in PRIORS:
        return None
    of_engine = network.engine.name, network.engine.images_per_policy
    key = preparation_key(network.priced, network.quantizers, which, *of_engine)
    return ensure_losses(key, partial(PRIORS[which], network))
