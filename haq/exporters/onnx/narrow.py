"""Storage of integer codes in fewer than 8 bits, in the types int4 (since opset 21) and int2 (since opset 25)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from hardware_sim.weight_storage import WIDENING_BYTES

Width = Literal[2, 4, 8]
"""Bits of a stored code."""
_TYPES: Mapping[Width, str] = {2: "INT2", 4: "INT4"}
"""Names of the types, which older releases of onnx do not have."""
OPSETS: Mapping[Width, int] = {2: 25, 4: 21, 8: 13}
"""First opset that has a type of this width."""
IR_VERSIONS: Mapping[Width, int] = {2: 13, 4: 10, 8: 7}
"""First version of the file format that has a type of this width."""


@dataclass(frozen=True, slots=True, eq=False)
class NarrowCodes:
    """Integer codes as they are stored: code = value * factor.

    Attributes:
        values: Stored values, int8, in the shape of the codes.
        width: Bits of a stored value.
        factor: Power of two.
    """

    values: NDArray[np.int8]
    width: Width
    factor: int = 1

    @property
    def stored_bytes(self) -> int:
        """Number of bytes of the stored values."""
        return -(-self.values.size * self.width // 8)

    def tensor(self, name: str) -> onnx.TensorProto:
        """Return the tensor that is stored.

        Args:
            name: Name of the tensor.

        Returns:
            The tensor, of type int2, int4 or int8.
        """
        if self.width == 8:
            return numpy_helper.from_array(self.values, name)
        return helper.make_tensor(
            name, TensorProto.DataType.Value(_TYPES[self.width]), self.values.shape, self.values.ravel()
        )


def narrowed(codes: NDArray[np.int8], widths: Sequence[Width]) -> NarrowCodes:
    """Choose the narrowest storage of codes.

    Codes of few bits may be multiples of a power of two; narrow values are stored without that factor. Weights are
    stored in 8 bits if the nodes that widen them take more bytes than narrow values save.

    Args:
        codes: Codes, int8.
        widths: Widths to choose from, ascending; the last is 8.

    Returns:
        The values to store.

    Examples:
        >>> found = narrowed(np.tile(np.array([-64, 0, 64], np.int8), 300), (2, 4, 8))
        >>> found.width, found.factor, found.values[:3].tolist()
        (2, 64, [-1, 0, 1])
    """
    lowest_bit = int(np.bitwise_or.reduce(codes.view(np.uint8), axis=None))
    factor = lowest_bit & -lowest_bit or 1
    least, most = int(codes.min(initial=0)) // factor, int(codes.max(initial=0)) // factor
    for width in widths:
        fits = -(1 << width - 1) <= least and most < 1 << width - 1
        if width != 8 and fits and codes.size * (8 - width) // 8 > WIDENING_BYTES:
            return NarrowCodes((codes // factor).astype(np.int8), width, factor)
    return NarrowCodes(codes, 8)
