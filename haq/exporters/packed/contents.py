"""Contents of a packed file: the tensors and the header of a network with its policy."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from haq.exporters.deployable import Deployable
from haq.exporters.packed.header import Header, PackedInput, PackedLayer, PackedProduct, digest_of
from haq.exporters.packed.norms import Folded, fold
from haq.exporters.packed.words import pack, row_shape
from haq.network.tracing.products import ActivationProduct
from haq.quantization.linear import QuantizedWeight, QuantizerParameters

PACKED, SCALE, SHAPE = "weight_packed", "weight_scale", "weight_shape"
"""Names of a layer's tensors after its own, as in compressed-tensors."""


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """Tensors and header of a packed file.

    Attributes:
        header: Header.
        tensors: Tensors by name.
    """

    header: Header
    tensors: dict[str, Tensor]

    def bytes_of(self, *parts: str) -> int:
        """Return the size of the layers' tensors of some kinds.

        Args:
            parts: Names of the parts, such as `weight_packed`.

        Returns:
            Bytes.
        """
        endings = tuple(f".{part}" for part in parts)
        return sum(tensor.nbytes for name, tensor in self.tensors.items() if name.endswith(endings))


def make_contents(network: Deployable) -> Contents:
    """Pack the weights of a network, and collect everything else that it needs.

    Args:
        network: Network with its policy.

    Returns:
        The contents of the file.
    """
    folded = fold(network)
    layers = tuple(_layer(network, place) for place in range(len(network.policy.layers)))
    draft = Header(policy=network.policy, layers=layers, norms=tuple(folded.norms), digest="0" * 32)
    tensors = _state(network.model, draft, folded)
    tensors |= folded.corrections.tensors(tuple(layer.name for layer in network.policy.layers))
    for place, (bits, owner) in enumerate(zip(network.policy.layers, draft.owners, strict=True)):
        if owner == place and bits.w_bits is not None and network.quantizers.has_weights(place):
            codes = network.quantizers.codes(place, bits.w_bits)
            parts = _packed(codes, folded, place)
            tensors |= {f"{bits.name}.{part}": value for part, value in parts.items()}
    copies = {name: _stored(tensor) for name, tensor in tensors.items()}
    return Contents(draft.model_copy(update={"digest": digest_of(draft, copies)}), copies)


def stored_names(model: nn.Module, header: Header) -> set[str]:
    """Return the names of the tensors of a network that are stored as they are, apart from batch norms.

    Args:
        model: Network.
        header: Header of its file.

    Returns:
        Names in the state dict: all tensors except parameters that consist of packed weights.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    packed: dict[str, int] = {}
    for place, (bits, layer, owner) in enumerate(zip(header.policy.layers, header.layers, header.owners, strict=True)):
        if owner == place and bits.w_bits is not None and layer.parameter is not None:
            packed[layer.parameter] = packed.get(layer.parameter, 0) + layer.count
    whole = {id(parameters[name]) for name, count in packed.items() if count >= parameters[name].numel()}
    state = (name for name, value in model.state_dict().items() if isinstance(value, Tensor))
    return {name for name in state if id(parameters.get(name)) not in whole}


def _stored(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _state(model: nn.Module, header: Header, folded: Folded) -> dict[str, Tensor]:
    state = model.state_dict()
    values = {name: folded.changed.get(name, state[name]) for name in sorted(stored_names(model, header))}
    return {name: value for name, value in values.items() if value is not None}


def _layer(network: Deployable, place: int) -> PackedLayer:
    bits, site = network.policy.layers[place], network.trace.sites[place]
    quantizer = None if bits.a_bits is None else network.quantizers.activation(place, bits.a_bits)
    if isinstance(site.weights, ActivationProduct):
        second = None if bits.w_bits is None else network.quantizers.second_activation(place, bits.w_bits)
        product = PackedProduct(**asdict(site.weights))
        return PackedLayer(product=product, call=site.call, input=_input(quantizer), second_input=_input(second))
    return PackedLayer(
        parameter=site.weights.parameter,
        offset=site.weights.offset,
        shape=site.weights.shape,
        is_transposed=site.weights.is_transposed,
        call=site.call,
        channel_axis=1 if bits.kind == "conv_transpose" else 0,
        input=_input(quantizer),
    )


def _input(quantizer: QuantizerParameters | None) -> PackedInput | None:
    if quantizer is None:
        return None
    return PackedInput(
        scale=quantizer.scale, zero_point=quantizer.zero_point, q_min=quantizer.q_min, q_max=quantizer.q_max
    )


def _packed(weight: QuantizedWeight, folded: Folded, place: int) -> dict[str, Tensor]:
    """Return the stored tensors of quantized weights by part."""
    scale = weight.scale.double()
    if place in folded.factors:
        scale = scale * torch.from_numpy(folded.factors[place])
    codes = weight.codes.cpu().numpy()
    return {
        PACKED: torch.from_numpy(pack(codes, weight.bits)),
        SCALE: scale.float()[:, None],
        SHAPE: torch.tensor(row_shape(codes.shape, weight.bits)),
    }
