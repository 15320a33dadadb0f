"""Parts of a C program that belong to one operation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from haq.exporters.integer.network import CodeTensor, IntegerNetwork, Operation, Product


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What the code of an operation refers to.

    Attributes:
        name: Identifier of the operation, the first part of the names of its constants.
        network: Network of the operation.
        pointers: C expressions of the tensors.
        scratch: C expression of the working memory, an `int32_t *`.
        has_any_factors: Whether a product of the network has a factor of one half or more, or sums that exceed 2^30.
        images: Shapes of the images whose order flattened tensors have kept in memory.
    """

    name: str
    network: IntegerNetwork
    pointers: Mapping[str, str]
    scratch: str = ""
    has_any_factors: bool = False
    images: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def tensor(self, name: str) -> CodeTensor:
        """Return a tensor of the network.

        Args:
            name: Its name.

        Returns:
            The tensor.
        """
        return self.network.tensors[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """Code and constants of an operation.

    Attributes:
        call: Statements.
        kernels: Functions that the statements call, by the names of their files.
        constants: Definitions of constants.
        weight_bytes: Bytes of the packed weights.
        constant_bytes: Bytes of all constants, with structures.
        storage: How weights are stored; empty without weights.
    """

    call: str
    kernels: tuple[str, ...]
    constants: str = ""
    weight_bytes: int = 0
    constant_bytes: int = 0
    storage: str = ""


def image_shape(tensor: CodeTensor) -> tuple[int, int, int]:
    """Return the shape of a tensor as an image.

    Args:
        tensor: Tensor of one or three dimensions.

    Returns:
        (channels, height, width), height and width 1 for vectors.
    """
    channels, height, width = (*tensor.shape, 1, 1) if len(tensor.shape) == 1 else tensor.shape
    return channels, height, width


def name_of(operation: Operation) -> str:
    """Return a name for an operation: its layer, or the tensor that it writes.

    Args:
        operation: Operation.

    Returns:
        The name, as the model has it.
    """
    return operation.layer if isinstance(operation, Product) else operation.output


def count_of(tensor: CodeTensor) -> int:
    """Return the number of codes of a tensor.

    Args:
        tensor: Tensor.

    Returns:
        The number of codes of one input of the network.
    """
    channels, height, width = image_shape(tensor)
    return channels * height * width
