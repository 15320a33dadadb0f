"""Dropout of networks in training."""

from torch import nn

_MODULES = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def set_dropout(network: nn.Module, probability: float) -> None:
    """Set the probability of all dropout of a network: modules, and inside recurrent and attention layers of torch.

    Args:
        network: Network, which is changed.
        probability: Probability in [0, 1).
    """
    for module in network.modules():
        if isinstance(module, _MODULES):
            module.p = probability
        elif isinstance(module, nn.MultiheadAttention) or (isinstance(module, nn.RNNBase) and module.num_layers > 1):
            module.dropout = probability
