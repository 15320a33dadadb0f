"""Record of the errors that the layers of a policy cause: content of `layer_errors.json`."""

from typing import Annotated

from pydantic import ConfigDict, Field

from haq.layer_bits import Name
from haq.runs.records import Amount, Count, StoredRecord

LAYER_ERRORS = "layer_errors.json"
WidthLosses = Annotated[tuple[Amount, ...], Field(min_length=8, max_length=8)]
"""Relative output errors of the network, by width from 1 to 8 bits."""


class LayerError(StoredRecord):
    """Errors at the output of one layer, as power of the difference from the float network over the float power.

    Where the engine corrects the means of channels, they are removed before.

    Attributes:
        name: Name of the layer.
        added: Error if only this layer is quantized, with the bits of the policy. None, like the next one, for a layer
            that the inputs do not run.
        accumulated: Error in the network with the whole policy.
        weights: Output error of the network that the search expected if only the weights of this layer are quantized.
            Missing, like the next one, if the search computed no prior.
        input: The same for the input of this layer.
    """

    model_config = ConfigDict(extra="allow")

    name: Name
    added: Amount | None
    accumulated: Amount | None
    weights: WidthLosses | None = None
    input: WidthLosses | None = None


class LayerErrors(StoredRecord):
    """Errors of all layers.

    Attributes:
        images: Number of calibration images on which they were measured.
        layers: Layers in the order of execution.
    """

    model_config = ConfigDict(extra="allow")

    images: Count
    layers: Annotated[tuple[LayerError, ...], Field(min_length=1)]

    @property
    def has_expected(self) -> bool:
        """Whether the search expected errors of all layers."""
        return all(layer.weights is not None and layer.input is not None for layer in self.layers)
