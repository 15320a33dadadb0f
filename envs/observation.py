"""Observations of the agent: a vector in [0, 1] of features of the layer and of the progress."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from envs.choices import Choices
from hardware_sim.layer import SPATIAL_KINDS, Layer

ObservationKind = Literal["haq", "rich"]
OBSERVATION_KINDS: tuple[ObservationKind, ...] = get_args(ObservationKind)
Float32Array = NDArray[np.float32]

LAYER_FEATURES: Mapping[str, Callable[[Layer], float]] = {
    "c_in": lambda layer: layer.c_in,
    "c_out": lambda layer: layer.c_out,
    # The longer side: layers with one dimension are one pixel high.
    "kernel": lambda layer: max(layer.kernel),
    "stride": lambda layer: max(layer.stride) if layer.kind in SPATIAL_KINDS else 0,
    "feature_size": lambda layer: max(layer.input_size),
    "weights": lambda layer: layer.weights_read,
    "depthwise": lambda layer: layer.kind == "depthwise",
}
"""Those of HAQ's ten features that depend on the layer alone; a fully connected layer has kernel 1 and stride 0."""

RICH_FEATURES = ("log_macs", "cost_share", "cost_left", "budget_left")


def observation_size(kind: ObservationKind) -> int:
    """Return the length of an observation.

    Args:
        kind: Kind of observation.

    Returns:
        Number of entries.

    Example:
        >>> observation_size("haq"), observation_size("rich")
        (10, 14)
    """
    return len(LAYER_FEATURES) + 3 + (len(RICH_FEATURES) if kind == "rich" else 0)


def layer_features(layers: Sequence[Layer]) -> Float32Array:
    """Compute the features of every layer, position first, each scaled to [0, 1] over the layers.

    Args:
        layers: Layers in the order of execution.

    Returns:
        Array [layer, feature].
    """
    rows = [[index, *(feature(layer) for feature in LAYER_FEATURES.values())] for index, layer in enumerate(layers)]
    return _scaled(np.array(rows, dtype=np.float64)).astype(np.float32)


def rich_features(layers: Sequence[Layer], choices: Choices) -> Float32Array:
    """Compute log_macs, cost_share and cost_left of every layer.

    The cost is the objective's maximum over the allowed bits: of this layer, and of all layers from this one on.

    Args:
        layers: Layers in the order of execution, one for each decision.
        choices: Allowed bits and their costs.

    Returns:
        Array [layer, 3] in [0, 1].
    """
    log_macs = np.log1p([layer.macs for layer in layers])
    max_cost = np.where(choices.allowed, choices.cost[0], 0).max(axis=(1, 2))
    left = max_cost[::-1].cumsum()[::-1]
    columns = (_scaled(log_macs), max_cost / max(max_cost.max(), 1e-300), left / max(left[0], 1e-300))
    return np.stack(columns, axis=1).astype(np.float32)


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale each column from [min, max] to [0, 1]; a constant column becomes 0."""
    low, high = values.min(axis=0), values.max(axis=0)
    return np.asarray((values - low) / np.where(high > low, high - low, 1))
