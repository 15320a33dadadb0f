"""Quantizers of the weights of all layers of a network."""

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from haq.network.layer_calls import weight_of
from haq.network.layers import Trace
from haq.quantization.input_hessians import has_hessian
from haq.quantization.layer_weights import LayerWeights, StoredWeight, make_layer_weights
from haq.quantization.options import QuantizerOptions
from haq.quantization.rounding import ROUNDINGS, WeightRounding


class WeightQuantizers:
    """Quantized weights of all layers, computed once for each bit width on first use and kept.

    Layers with the same weights share their quantizer.

    Args:
        model: Float network.
        trace: Its trace.
        hessians: Function that returns the Hessians of the inputs of layers, by layer. It is called when one is first
            needed, which is then removed from them.
        options: Settings.
    """

    def __init__(
        self, model: nn.Module, trace: Trace, hessians: Callable[[], dict[int, Tensor]], options: QuantizerOptions
    ) -> None:
        self._model, self._trace, self._hessians, self._options = model, trace, hessians, options
        self._layers: dict[int, LayerWeights] = {}
        self._found: dict[tuple[int, int], StoredWeight] = {}

    def quantized(self, layer: int, bits: int) -> StoredWeight:
        """Return the quantized weights of a layer.

        Args:
            layer: Position of the layer.
            bits: Bit width, 1 to 8.

        Returns:
            The weights.

        Raises:
            ValueError: The weights are empty or not finite.
        """
        owner = self._owner(layer)
        if (owner, bits) not in self._found:
            self._found[owner, bits] = self._layer(owner).quantize(bits)
        return self._found[owner, bits]

    def tensors(self, layer: int, bits: int) -> dict[str, Tensor]:
        """Return the parameters of a quantizer as they are stored.

        Args:
            layer: Position of the layer.
            bits: Bit width, 1 to 8.

        Returns:
            Tensors by `LAYER.weight.scale` and so on.
        """
        parts = self.quantized(layer, bits).parts
        return {f"{self._prefix(layer)}{part}": value for part, value in parts.items()}

    def load(self, tensors: Mapping[str, Tensor], layer: int, bits: int) -> None:
        """Restore a quantizer, so that it is not computed again; a layer that shares an earlier one's is left out.

        Args:
            tensors: Stored tensors by name.
            layer: Position of the layer.
            bits: Bit width, 1 to 8.

        Raises:
            KeyError: The quantizer is missing.
            ValueError: It has other bits or another shape.
        """
        if self._owner(layer) != layer:
            return
        prefix = self._prefix(layer)
        parts = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if not parts:
            raise KeyError(prefix.removesuffix("."))
        self._found[layer, bits] = self._layer(layer).restore(bits, parts)

    def _layer(self, owner: int) -> LayerWeights:
        if owner not in self._layers:
            weight = weight_of(self._model, self._trace.sites[owner])
            axis = 1 if self._trace.layers[owner].kind == "conv_transpose" else 0
            self._layers[owner] = make_layer_weights(
                self._options.weights,
                weight,
                channel_axis=axis,
                method=self._options.method,
                rounding=self._rounding(owner),
                scales=self._options.weight_scales,
            )
        return self._layers[owner]

    def _rounding(self, layer: int) -> WeightRounding:
        """Return the rounding of a layer's weights."""
        method = ROUNDINGS[self._options.rounding]
        if method.needs_hessian and not has_hessian(self._trace, layer):
            method = ROUNDINGS["nearest"]
        return method.make(lambda: self._hessians().pop(layer), self._options.weight_scales)

    def _owner(self, layer: int) -> int:
        """Return the first layer that uses the same weights."""
        weights = self._trace.sites[layer].weights
        return next(first for first, site in enumerate(self._trace.sites) if site.weights == weights)

    def _prefix(self, layer: int) -> str:
        return f"{self._trace.layers[layer].name}.weight."
