"""Convolutions and matrix products, as their C code computes them."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from haq.errors import UserError
from haq.exporters.c.fragments import image_shape
from haq.exporters.c.packing import pack, stored_bits
from haq.exporters.integer.arithmetic import Multiplier, fixed_points
from haq.exporters.integer.network import Codes, CodeTensor, IntegerNetwork, Product

FILTERS = 4
"""Filters that are computed together."""
_SUM_LIMIT = 2**31 - 256
_SMALL_SUMS = 2**30
_LONGEST_PERIOD = 2**15 - 1
_SHORTEST_NARROW_PERIOD = 16
"""Products in a field below which it is emptied so often that wide fields take fewer instructions (results/mcu)."""


@dataclass(frozen=True, slots=True)
class Packing:
    """How a convolution multiplies an input with two filters at once: the codes of both in fields of one word.

    Attributes:
        kernel: Name of the function.
        field: Bits of the lower field.
    """

    kernel: str
    field: int

    @property
    def limit(self) -> int:
        """Largest absolute value of a sum in the lower field."""
        return int(2 ** (self.field - 1)) - 1


NARROW = Packing("dot_narrow", field=16)
"""Fields in a product of 32 bits."""
WIDE = Packing("dot_wide", field=23)
"""Fields in a product of 64 bits."""


@dataclass(frozen=True)
class ProductCode:
    """A product and what its C code depends on.

    Attributes:
        product: Product.
        source: Its input.
        output: Its output.
        image: Shape of the image that the input, a vector, is in the order of memory; None for other inputs.
    """

    product: Product
    source: CodeTensor
    output: CodeTensor
    image: tuple[int, ...] | None = None

    @cached_property
    def filters(self) -> Codes:
        """Weights in the order of memory: [c_out, kernel height, kernel width, c_in / groups]."""
        weights = self.product.weights
        if weights.ndim == 4:
            return np.ascontiguousarray(weights.transpose(0, 2, 3, 1))
        if self.image is not None:
            weights = weights.reshape(len(weights), *self.image).transpose(0, 2, 3, 1)
        return np.ascontiguousarray(weights.reshape(len(weights), 1, 1, -1))

    @cached_property
    def size(self) -> int:
        """Codes of a filter."""
        return int(self.filters[0].size)

    @cached_property
    def bits(self) -> int:
        """Bits of a stored code."""
        return stored_bits(self.product.weights, self.product.w_bits)

    @property
    def kernel(self) -> str:
        """Name of the function that computes the product."""
        shape = image_shape(self.output)
        if self.product.groups == image_shape(self.source)[0] == shape[0] and self.filters.shape[3] == 1:
            return "depthwise" if self.product.groups > 1 else "convolution"
        is_matrix = self.filters.shape[1:3] == (1, 1) and image_shape(self.source)[1:] == shape[1:] == (1, 1)
        return "linear" if is_matrix and self.product.groups == 1 else "convolution"

    @property
    def largest_product(self) -> int:
        """Largest absolute value of a product of two codes."""
        codes = max(abs(self.source.q_min), abs(self.source.q_max), abs(self.source.zero_point))
        return max(int(np.abs(self.filters.astype(np.int16)).max(initial=0)) * codes, 1)

    @property
    def packing(self) -> Packing:
        """How a convolution packs its filters: narrow fields where sums fit into them."""
        return NARROW if NARROW.limit // self.largest_product >= _SHORTEST_NARROW_PERIOD else WIDE

    @property
    def period(self) -> int:
        """Number of products that fields can add up."""
        return min(self.packing.limit // self.largest_product, _LONGEST_PERIOD)

    @property
    def is_direct(self) -> bool:
        """Whether the weights are used where they are stored, without being unpacked."""
        return self.kernel == "linear" and self.bits == 8

    @property
    def scratch_bytes(self) -> int:
        """Bytes of working memory."""
        if self.is_direct:
            return 0
        if self.kernel == "depthwise":
            return 4 * image_shape(self.output)[2] + self.size
        if self.kernel == "linear":
            return FILTERS * self.size
        return 8 * self.size + 2 * self.size

    @cached_property
    def stream(self) -> bytes:
        """Packed weights in the order in which the function unpacks them."""
        return pack(np.concatenate(list(self._blocks())), self.bits)

    def _blocks(self) -> Iterator[Codes]:
        """Yield the codes that are unpacked together, those of the same input next to each other."""
        flat = self.filters.reshape(len(self.filters), -1)
        if self.kernel == "depthwise":
            yield flat.reshape(-1)
            return
        for group in np.split(flat, self.product.groups):
            for first in range(0, len(group), FILTERS):
                block = group[first : first + FILTERS]
                is_single = self.kernel == "linear" and len(block) < FILTERS
                yield (block if is_single else block.T).reshape(-1)

    @cached_property
    def bias(self) -> NDArray[np.int64]:
        """Biases with the part that the zero point of the input has in every sum, [c_out]."""
        sums = np.sum(self.filters, axis=(1, 2, 3), dtype=np.int64)
        return np.asarray(self.product.bias, np.int64) - (np.int64(self.source.zero_point) * sums << self.product.shift)

    @cached_property
    def multipliers(self) -> list[Multiplier]:
        """Factors from sums to output codes, per filter."""
        w_scale = self.product.w_scale / 2**self.product.shift
        mantissas, exponents = fixed_points(self.source.scale * w_scale / self.output.scale)
        return [
            Multiplier(int(mantissa), int(exponent)) for mantissa, exponent in zip(mantissas, exponents, strict=True)
        ]

    @cached_property
    def largest_sum(self) -> int:
        """Bound of the absolute values of all sums, on the way to them too."""
        magnitudes = np.sum(np.abs(self.filters.astype(np.int64)), axis=(1, 2, 3)) * 128 << self.product.shift
        return int((magnitudes + np.abs(self.bias)).max())

    @property
    def has_any_factors(self) -> bool:
        """Whether a factor is one half or more, or sums may exceed 2^30."""
        is_large = any(each.exponent >= 0 and each.mantissa > 0 for each in self.multipliers)
        return is_large or self.largest_sum >= _SMALL_SUMS

    def check(self) -> None:
        """Check that the sums fit into 32 bits.

        Raises:
            UserError: They do not.
        """
        if self.largest_sum > _SUM_LIMIT:
            raise UserError(f"layer {self.product.layer}: sums exceed 32 bits; its bias is too large for its scales")
        if max(each.exponent for each in self.multipliers) > 30:
            raise UserError(f"layer {self.product.layer}: the factor of its output exceeds 2^30")


def product_code(product: Product, network: IntegerNetwork, image: tuple[int, ...] | None = None) -> ProductCode:
    """Return what the C code of a product depends on.

    Args:
        product: Product.
        network: Its network.
        image: Shape of the image whose codes the input, a vector, has in the order of memory.

    Returns:
        The product with its tensors.
    """
    return ProductCode(product, network.tensors[product.source], network.tensors[product.output], image)
