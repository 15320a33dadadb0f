"""Header of a packed file: the policy, where its weights belong, and the quantizers of inputs.

Files may come from anybody, so that types, sizes and lengths are bounded.
"""

import json
from collections.abc import Mapping
from hashlib import blake2b
from math import prod
from typing import Annotated, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from haq.layer_bits import Name
from haq.network.layers import Site
from haq.network.tracing.products import ActivationProduct
from haq.network.tracing.weighted_calls import WeightSlice
from haq.policy import Policy

KEY = "haq"
"""Key of the header in the metadata of the file."""
MAX_DIMENSIONS = 8
Integer = Annotated[int, Field(strict=True, ge=-(2**10), le=2**10)]
Size = Annotated[int, Field(strict=True, ge=0, le=2**40)]
Count = Annotated[int, Field(strict=True, ge=1, le=2**20)]
Step = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PackedInput(_Frozen):
    """Quantizer of a layer's input: value = (code - zero_point) * scale."""

    scale: Step
    zero_point: Integer
    q_min: Integer
    q_max: Integer


class PackedProduct(_Frozen):
    """Place of a product of two activations."""

    module: Annotated[str, Field(max_length=1000)]
    operator: Name
    index: Count


class PackedLayer(_Frozen):
    """Place of a layer's weights in the network, and the quantizer of its input; None for an input in float.

    A product of two activations has its place and the quantizer of the second one instead of weights.
    """

    parameter: Name | None = None
    offset: Size = 0
    shape: Annotated[tuple[Size, ...], Field(max_length=MAX_DIMENSIONS)] = ()
    is_transposed: bool = False
    call: Count = 1
    channel_axis: Literal[0, 1] = 0
    input: PackedInput | None = None
    product: PackedProduct | None = None
    second_input: PackedInput | None = None

    @model_validator(mode="after")
    def _has_one_factor(self) -> Self:
        if (self.parameter is None) == (self.product is None) or bool(self.shape) != (self.product is None):
            raise ValueError("a layer has the name and the shape of a parameter, or the place of a product")
        if self.is_transposed and len(self.shape) != 2:
            raise ValueError("only matrices are stored transposed")
        return self

    @property
    def site(self) -> Site:
        """Position of the layer in a forward pass."""
        if self.product is not None:
            return Site(ActivationProduct(**self.product.model_dump()), self.call)
        return Site(self.weights, self.call)

    @property
    def weights(self) -> WeightSlice:
        """Part of a parameter that the layer multiplies with."""
        assert self.parameter is not None, "a product of two activations has no weights"
        return WeightSlice(self.parameter, self.offset, self.shape, self.is_transposed)

    @property
    def count(self) -> int:
        """Number of weights."""
        return prod(self.shape) if self.product is None else 0

    @property
    def channels(self) -> int:
        """Number of scales of the weights."""
        return self.shape[self.channel_axis]


class Header(_Frozen):
    """Header of a packed file.

    Attributes:
        format: Name of the format.
        version: Version of the format.
        policy: Bits of all layers.
        layers: Layers in the order of the policy.
        norms: Modules with a batch norm that is stored as factors `weight`, 1 if not stored, and offsets `bias`.
        digest: Hash of the rest of the header and of all tensors.
    """

    format: Literal["haq-packed"] = "haq-packed"
    version: Literal[1] = 1
    policy: Policy
    layers: tuple[PackedLayer, ...]
    norms: tuple[Name, ...] = ()
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]

    @model_validator(mode="after")
    def _fits_policy(self) -> Self:
        if len(self.layers) != len(self.policy.layers):
            raise ValueError(f"layers: {len(self.layers)} for a policy of {len(self.policy.layers)}")
        for bits, layer in zip(self.policy.layers, self.layers, strict=True):
            for quantizer, width in ((layer.input, bits.a_bits), (layer.second_input, bits.w_bits)):
                if quantizer and (width is None or not 0 <= quantizer.q_max - quantizer.q_min < 2**width):
                    raise ValueError(f"layers: input codes of {bits.name} exceed its bits")
            if (layer.product is not None) != (bits.kind == "matmul"):
                raise ValueError(f"layers: {bits.name} is {bits.kind}")
            if layer.product is None and layer.channel_axis >= len(layer.shape):
                raise ValueError(f"layers: weights of {bits.name} have no axis {layer.channel_axis}")
        return self

    def to_json(self) -> str:
        """Return the content of the header; values that are the defaults of their fields are left out."""
        document = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return json.dumps({"format": self.format, "version": self.version, **document}, separators=(",", ":"))

    @property
    def owners(self) -> tuple[int, ...]:
        """For each layer, position of the first layer that uses the same weights."""
        first: dict[WeightSlice | ActivationProduct, int] = {}
        return tuple(first.setdefault(layer.site.weights, place) for place, layer in enumerate(self.layers))


def digest_of(header: Header, tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of a file's contents, to detect damage.

    Args:
        header: Header, whose digest does not matter.
        tensors: Tensors by name, on the CPU.

    Returns:
        32 hexadecimal digits.
    """
    digest = blake2b(digest_size=16)
    digest.update(header.model_copy(update={"digest": ""}).model_dump_json(by_alias=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
