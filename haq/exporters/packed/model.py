"""Runnable network of a packed file."""

from collections.abc import Iterable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from haq.errors import UserError
from haq.execution.networks import call_network, switch_to_eval
from haq.execution.structures import Structure
from haq.execution.user_code import caller_kept, one_line
from haq.exporters.packed.contents import PACKED, SCALE, SHAPE, Contents, stored_names
from haq.exporters.packed.header import PackedInput
from haq.exporters.packed.norms import NORM_PARTS, is_foldable
from haq.exporters.packed.reading import read_packed, unpacked
from haq.network.layer_calls import LayerCalls, LayerIndex
from haq.network.tracing.unwrapping import unwrapped
from haq.network.tracing.weighted_calls import Call
from haq.network.zoo import build_model
from haq.policy import Policy
from haq.quantization.corrections import Corrections
from haq.quantization.range import align_channels, fake_quantize


class PackedModel(nn.Module):
    """Network with the weights of a packed file, which quantizes the inputs of its layers.

    It computes what the quantized network computes in torch, up to the rounding of folded batch norms.

    Args:
        model: Network with the values of the file, in evaluation mode.
        contents: Contents of the file.

    Attributes:
        model: Network with the values of the file.
        policy: Bits of all layers.
    """

    scales: Tensor
    second_scales: Tensor

    def __init__(self, model: nn.Module, contents: Contents) -> None:
        super().__init__()
        self.model, self.policy = model, contents.header.policy
        self._layers = contents.header.layers
        names = tuple(layer.name for layer in self.policy.layers)
        self._corrections = Corrections.from_tensors(contents.tensors, names)
        self.register_buffer("scales", _scales(layer.input for layer in self._layers))
        self.register_buffer("second_scales", _scales(layer.second_input for layer in self._layers))

    def forward(self, *inputs: Structure, **named: Structure) -> Structure:
        """Run the network.

        Args:
            inputs: Positional arguments of the network.
            named: Keyword arguments of the network.

        Returns:
            Outputs of the network.
        """
        # Built anew for every pass: a copy of this network, or a move to a device, has other tensors.
        index = LayerIndex(self.model, [layer.site for layer in self._layers])
        return call_network(self.model, inputs, named, LayerCalls(index, self._answer, self._corrections.normalize))

    def _answer(self, layer: int, call: Call) -> Tensor:
        found = self._layers[layer]
        x = _quantized(call.input, found.input, self.scales[layer])
        factor = _quantized(call.factor, found.second_input, self.second_scales[layer])
        return self._corrections.correct(layer, call, call.run(x, factor))


def _scales(quantizers: Iterable[PackedInput | None]) -> Tensor:
    return torch.tensor([1.0 if each is None else each.scale for each in quantizers])


def _quantized(x: Tensor, quantizer: PackedInput | None, scale: Tensor) -> Tensor:
    if quantizer is None or not x.is_floating_point():
        return x
    return fake_quantize(x, scale, quantizer.zero_point, quantizer.q_min, quantizer.q_max)


def load_packed(path: str | Path, model: nn.Module | str) -> PackedModel:
    """Read a packed file and put its values into a network.

    The file may come from anybody: nothing in it is executed or unpickled.

    Args:
        path: File of `haq export --format packed`.
        model: Network of the same structure, which is copied and whose values do not matter; or its name as on the
            command line, such as "torchvision:resnet18".

    Returns:
        The quantized network in evaluation mode, on the CPU.

    Raises:
        UserError: The file cannot be read, is damaged, or belongs to another network.

    Examples:
        >>> network = load_packed("digits.safetensors", "digits_cnn")  # doctest: +SKIP
        >>> scores = network(images)  # doctest: +SKIP
    """
    contents = read_packed(Path(path))
    found = build_model(model) if isinstance(model, str) else unwrapped(model)
    with caller_kept(found):
        network = deepcopy(found).to("cpu")
        switch_to_eval(network)
        return packed_model(network, contents, str(path))


def packed_model(model: nn.Module, contents: Contents, name: str = "the packed file") -> PackedModel:
    """Put the values of a packed file into a network.

    Args:
        model: Network on the CPU, in evaluation mode, whose values are replaced.
        contents: Contents of the file.
        name: Name of the file, for messages.

    Returns:
        The quantized network.

    Raises:
        UserError: The file belongs to another network.
    """
    try:
        _require_parameters(model, contents)
        with torch.no_grad():
            used = _load_state(model, contents) | _load_weights(model, contents)
        loaded = PackedModel(model, contents)
        _require_all_used(contents, used, loaded.policy)
    except (ValueError, LookupError, RuntimeError) as error:
        raise UserError(f"{name} does not fit the network: {one_line(error)}") from error
    return loaded.eval()


def _require_parameters(model: nn.Module, contents: Contents) -> None:
    """Raise ValueError unless every layer's weights are within a parameter of the network."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for bits, layer in zip(contents.header.policy.layers, contents.header.layers, strict=True):
        if layer.parameter is None:
            continue
        parameter = parameters.get(layer.parameter)
        if parameter is None:
            raise ValueError(f"it has no parameter {layer.parameter} for {bits.name}")
        if is_lazy(parameter):
            raise ValueError(f"{layer.parameter} has no shape yet; run the network once")
        whole = layer.offset == 0 and layer.weights.stored_shape == tuple(parameter.shape)
        if not whole and (layer.offset + layer.count > parameter.numel() or layer.count == parameter.numel()):
            raise ValueError(f"{layer.parameter} has the shape {list(parameter.shape)}, not {list(layer.shape)}")


def _load_state(model: nn.Module, contents: Contents) -> set[str]:
    """Copy the tensors that are stored as they are, and those of folded batch norms; return the names in the file."""
    state, modules = model.state_dict(), dict(model.named_modules())
    names = stored_names(model, contents.header)
    for path in contents.header.norms:
        module = modules.get(path)
        if not is_foldable(model, module):
            raise ValueError(f"{path} is no batch norm")
        assert isinstance(module, nn.modules.batchnorm._BatchNorm)
        for part, number in (("weight", 1.0), ("running_mean", 0.0), ("running_var", 1.0 - module.eps)):
            getattr(module, part).fill_(number)
        prefix = f"{path}." if path else ""
        names -= {f"{prefix}{part}" for part in NORM_PARTS if f"{prefix}{part}" not in contents.tensors}
    for name in names:
        value = contents.tensors.get(name)
        if value is None or value.dtype != state[name].dtype or value.shape != state[name].shape:
            raise ValueError(f"it has no {name} of shape {list(state[name].shape)}")
        state[name].copy_(value)
    return names


def _load_weights(model: nn.Module, contents: Contents) -> set[str]:
    """Write the values of packed weights into the parameters; return the names in the file."""
    names, header = set(), contents.header
    for place, (bits, layer) in enumerate(zip(header.policy.layers, header.layers, strict=True)):
        weight = unpacked(contents, place) if header.owners[place] == place else None
        if weight is None or layer.parameter is None:
            continue
        values = weight.codes.float() * align_channels(weight.scale, weight.codes.ndim, weight.channel_axis)
        parameter = model.get_parameter(layer.parameter)
        flat = parameter.detach().reshape(-1).clone()  # a parameter may be in another order in memory
        stored = values.t() if layer.is_transposed else values
        flat[layer.offset : layer.offset + layer.count] = stored.reshape(-1)
        parameter.copy_(flat.view(parameter.shape))
        names |= {f"{bits.name}.{each}" for each in (PACKED, SCALE, SHAPE)}
    return names


def _require_all_used(contents: Contents, used: set[str], policy: Policy) -> None:
    """Raise ValueError if the file has tensors that the network does not use."""
    names = tuple(layer.name for layer in policy.layers)
    corrections: dict[str, Any] = Corrections.from_tensors(contents.tensors, names).tensors(names)
    unknown = sorted(contents.tensors.keys() - used - corrections.keys())
    if unknown:
        raise ValueError(f"it does not have {unknown[0]}")
