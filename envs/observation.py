"""What the agent sees of a layer and of its progress: a vector in [0, 1], built from a table of features."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from envs.choices import Choices
from hardware_sim.layer import SPATIAL_KINDS, Layer

ObservationKind = Literal["haq", "rich"]
OBSERVATION_KINDS: tuple[ObservationKind, ...] = get_args(ObservationKind)
FloatArray = NDArray[np.float32]

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
"""Of HAQ's ten features those that a layer fixes; a fully connected layer has kernel 1 and stride 0 in their places."""

RICH_FEATURES = ("log_macs", "cost_share", "cost_left", "budget_left")


def observation_size(kind: ObservationKind) -> int:
    """Length of the vector.

    >>> observation_size("haq"), observation_size("rich")
    (10, 14)
    """
    return len(LAYER_FEATURES) + 3 + (len(RICH_FEATURES) if kind == "rich" else 0)


def layer_features(layers: Sequence[Layer]) -> FloatArray:
    """The features of every layer, [layer, feature]: position first, each scaled to [0, 1] over the layers."""
    rows = [[index, *(feature(layer) for feature in LAYER_FEATURES.values())] for index, layer in enumerate(layers)]
    return _scaled(np.array(rows, dtype=np.float64)).astype(np.float32)


def rich_features(layers: Sequence[Layer], choice: Choices) -> FloatArray:
    """log_macs, cost_share and cost_left of every layer, [layer, 3].

    The cost is the objective's at the dearest allowed bits: of this layer, and of all layers from this one on.
    """
    log_macs = np.log1p([layer.macs for layer in layers])
    dearest = np.where(choice.allowed, choice.cost[0], 0).max(axis=(1, 2))
    left = dearest[::-1].cumsum()[::-1]
    columns = (_scaled(log_macs), dearest / max(dearest.max(), 1e-300), left / max(left[0], 1e-300))
    return np.stack(columns, axis=1).astype(np.float32)


def _scaled(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each column from [min, max] to [0, 1]; a constant column becomes 0."""
    low, high = values.min(axis=0), values.max(axis=0)
    return np.asarray((values - low) / np.where(high > low, high - low, 1))
