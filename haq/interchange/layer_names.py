"""Names that other tools use for the layers of a network, their parameters and their inputs."""

import re
from collections.abc import Iterator, Sequence

from hardware_sim.layer import Layer

_WRAPPERS = ("", "module.", "model.", "_orig_mod.")
"""Prefixes that wrapping modules add to names."""
_BIAS = re.compile(r"(^|[._])bias(_[a-z0-9]+)*$")
_INPUTS = (".input", "_input", ".input_quantizer", ".input.0")
"""Endings of names of a layer's input."""


class LayerNames:
    """Index of the layers of a network by the names that files have for them.

    Args:
        layers: Layers of the network.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = {layer.name: layer.name for layer in layers}
        for layer in layers:
            for name in _parameters(layer.name):
                self._layers.setdefault(name, layer.name)

    def of_parameter(self, name: str) -> str | None:
        """Return the layer that a name of a layer or of its weights belongs to.

        Args:
            name: Name in a file.

        Returns:
            Name of the layer; None if there is none.

        Examples:
            >>> names = LayerNames([Layer(name="conv", kind="conv", c_in=1, c_out=1)])
            >>> names.of_parameter("module.conv.weight"), names.of_parameter("conv.bias")
            ('conv', None)
        """
        found = (self._layers.get(name.removeprefix(wrapper)) for wrapper in _WRAPPERS)
        return next((layer for layer in found if layer is not None), None)

    def of_input(self, name: str) -> str | None:
        """Return the layer whose input a name belongs to.

        Args:
            name: Name in a file.

        Returns:
            Name of the layer; None if there is none.
        """
        found = (self.of_parameter(name.removesuffix(end)) for end in _INPUTS if name.endswith(end))
        return next((layer for layer in found if layer is not None), None)

    def is_known(self, name: str) -> bool:
        """Return whether a name is that of a layer, of its weights or of its input.

        Args:
            name: Name in a file.

        Returns:
            True if it is.
        """
        return self.of_parameter(name) is not None or self.of_input(name) is not None

    def is_bias(self, name: str) -> bool:
        """Return whether a name is that of a bias, which a policy has no bits for.

        Args:
            name: Name in a file.

        Returns:
            True if it is.
        """
        return _BIAS.search(name[-200:]) is not None


def _parameters(layer: str) -> Iterator[str]:
    """Yield the names that a state dict can have for the weights of a layer."""
    path, _, last = layer.rpartition(".")
    yield f"{layer}.weight"
    yield f"{layer}_weight"
    yield f"{path}.weight_{last}" if path else f"weight_{last}"
