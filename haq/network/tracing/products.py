"""Products of two activations, such as those of attention: their calls, their sizes and their place in a network."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from string import ascii_letters
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from haq.network.tracing.attention import attention_product
from haq.network.tracing.weighted_calls import OPERATIONS, Call, Operation

PRODUCT = Operation("matmul")
"""Operation of all products of two activations: its `input` is the first operand, its `factor` the second."""


@dataclass(frozen=True, slots=True)
class ActivationProduct:
    """Place of a product of two activations in a network.

    Attributes:
        module: Path of the innermost module that runs when it is computed.
        operator: Name of the operator, such as `matmul`; `qk` and `pv` in attention.
        index: Number among the products of this operator in one call of the module, from 1.

    Examples:
        >>> ActivationProduct("block.attention", "qk", 1).name, ActivationProduct("", "matmul", 2).name
        ('block.attention.qk', 'matmul_2')
    """

    module: str
    operator: str
    index: int

    @property
    def name(self) -> str:
        """Name of the layer."""
        label = self.operator if self.index == 1 else f"{self.operator}_{self.index}"
        return f"{self.module}.{label}" if self.module else label


@dataclass(frozen=True, slots=True)
class ProductSizes:
    """Sizes of `groups` equal products of [rows, depth] by [depth, columns].

    Attributes:
        groups: Number of products.
        rows: Rows of the first operand.
        columns: Columns of the second operand.
        depth: Length of the sums.
    """

    groups: int
    rows: int
    columns: int
    depth: int


@dataclass(frozen=True, slots=True)
class _Form:
    """Function of torch that multiplies two tensors, with the names of its positional and its keyword parameters."""

    operator: str
    run: Callable[..., Tensor]
    parameters: tuple[str, ...]
    keywords: Mapping[str, str]

    def arguments(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the arguments of `run` by name; None where the function is called in another form."""
        if len(args) > len(self.parameters) or not set(kwargs) <= set(self.keywords):
            return None
        named = {self.keywords[key]: value for key, value in kwargs.items()}
        found = {**dict(zip(self.parameters, args, strict=False)), **named}
        return found if all(isinstance(found.get(key), Tensor) for key in ("input", "weight")) else None


def _plain(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(input: Tensor, weight: Tensor) -> Tensor:  # noqa: A002
        return function(input, weight)

    return run


def _added(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def run(input: Tensor, weight: Tensor, addend: Tensor, **factors: Any) -> Tensor:  # noqa: A002
        return function(addend, input, weight, **factors)

    return run


def _einsum(input: Tensor, weight: Tensor, equation: str) -> Tensor:  # noqa: A002
    return torch.einsum(equation, input, weight)


_OPERANDS, _ADDED = ("input", "weight"), ("addend", "input", "weight")
_FACTORS = {"beta": "beta", "alpha": "alpha"}
_MATMUL = _Form("matmul", _plain(torch.matmul), _OPERANDS, {"input": "input", "other": "weight"})
_MM = _Form("matmul", _plain(torch.mm), _OPERANDS, {"input": "input", "mat2": "weight"})
_BMM = _Form("bmm", _plain(torch.bmm), _OPERANDS, {"input": "input", "mat2": "weight"})
_ADDMM = _Form("addmm", _added(torch.addmm), _ADDED, {"input": "addend", "mat1": "input", "mat2": "weight", **_FACTORS})
_BADDBMM = _Form(
    "baddbmm", _added(torch.baddbmm), _ADDED, {"input": "addend", "batch1": "input", "batch2": "weight", **_FACTORS}
)
_FORMS: Mapping[Callable[..., Any], _Form] = {
    torch.matmul: _MATMUL,
    torch.linalg.matmul: _MATMUL,
    Tensor.matmul: _MATMUL,
    Tensor.__matmul__: _MATMUL,
    Tensor.__rmatmul__: _Form("matmul", _plain(torch.matmul), ("weight", "input"), {}),
    torch.mm: _MM,
    Tensor.mm: _MM,
    torch.bmm: _BMM,
    Tensor.bmm: _BMM,
    torch.addmm: _ADDMM,
    Tensor.addmm: _ADDMM,
    torch.baddbmm: _BADDBMM,
    Tensor.baddbmm: _BADDBMM,
}
MULTIPLYING: Mapping[Callable[..., Any], str] = {
    **{function: form.operator for function, form in _FORMS.items()},
    torch.einsum: "einsum",
    torch.tensordot: "tensordot",
    F.scaled_dot_product_attention: "attention",
    F.bilinear: "a bilinear form",
    F.embedding_bag: "a bag of embeddings",
}
"""Functions that multiply, by their name in messages; calls that are no layers stay in float."""


def product_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str, Call] | None:
    """Read a call of a function that multiplies two tensors.

    Args:
        function: Function of torch.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        Name of the operator and the call; None for other functions, and for forms that have no layer, such as an
        `einsum` of three operands.
    """
    if function is attention_product:
        first, second, operator = args
        return operator, Call(_plain(torch.matmul), PRODUCT, {"input": first, "weight": second})
    if function is torch.einsum:
        return _einsum_call(args) if not kwargs else None
    form = _FORMS.get(function)
    arguments = form.arguments(args, kwargs) if form else None
    return (form.operator, Call(form.run, PRODUCT, arguments)) if form and arguments is not None else None


def linear_call(call: Call) -> Call | None:
    """Read a product with a matrix of weights as a linear layer.

    Args:
        call: Call of a product whose second operand is a parameter or a view of one.

    Returns:
        Call of `F.linear` with the same result; None for other products, such as `einsum` and scaled sums.

    Examples:
        >>> operands = {"addend": torch.ones(3), "input": torch.ones(2, 4), "weight": torch.ones(4, 3)}
        >>> linear = linear_call(Call(torch.addmm, PRODUCT, operands))
        >>> linear.run(linear.input, linear.factor)
        tensor([[5., 5., 5.],
                [5., 5., 5.]])
    """
    bias, weight = call.arguments.get("addend"), call.factor
    if weight.ndim != 2 or not set(call.arguments) <= {"addend", "input", "weight"}:
        return None
    if bias is not None and tuple(bias.shape) != (weight.shape[1],):
        return None
    return Call(F.linear, OPERATIONS[F.linear], {"input": call.input, "weight": weight.t(), "bias": bias})


def _einsum_call(args: tuple[Any, ...]) -> tuple[str, Call] | None:
    equation, *operands = args
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = list(operands[0])
    if not isinstance(equation, str) or len(operands) != 2 or not all(isinstance(each, Tensor) for each in operands):
        return None
    first, second = operands
    return "einsum", Call(_einsum, PRODUCT, {"input": first, "weight": second, "equation": equation})


def product_sizes(call: Call) -> ProductSizes | None:
    """Return the sizes of a product.

    Leading dimensions of which one operand has size 1, such as the keys that all heads share, become rows or columns.

    Args:
        call: Call of the product.

    Returns:
        The sizes; None for a product that is not one of matrices: one with an empty operand, one whose operands are
        both repeated along different dimensions, or an `einsum` that sums over the dimensions of one operand alone.

    Examples:
        >>> operands = {"input": torch.zeros(2, 3, 5, 4), "weight": torch.zeros(2, 1, 4, 6)}
        >>> product_sizes(Call(torch.matmul, PRODUCT, operands))
        ProductSizes(groups=2, rows=15, columns=6, depth=4)
    """
    first, second = tuple(call.input.shape), tuple(call.factor.shape)
    if not call.input.numel() or not call.factor.numel():
        return None
    if "equation" in call.arguments:
        return _einsum_sizes(call.arguments["equation"], first, second)
    first = first if len(first) > 1 else (1, *first)
    second = second if len(second) > 1 else (*second, 1)
    batches = prod(first[:-2]), prod(second[:-2])
    if prod(np.broadcast_shapes(first[:-2], second[:-2])) != max(batches):
        return None
    groups = min(batches)
    rows, columns = first[-2] * (batches[0] // groups), second[-1] * (batches[1] // groups)
    return ProductSizes(groups, rows, columns, first[-1])


def _einsum_sizes(equation: str, first: tuple[int, ...], second: tuple[int, ...]) -> ProductSizes | None:
    labels = _labels(equation.replace(" ", ""), len(first), len(second))
    if labels is None:
        return None
    a, b, out = (set(part) for part in labels)
    sizes: dict[str, int] = {}
    for label, size in zip(labels[0] + labels[1], first + second, strict=True):
        if sizes.setdefault(label, size) != size:
            return None
    parts = [a & b & out, (a & out) - b, (b & out) - a, (a & b) - out]
    if set().union(*parts) != a | b or not parts[-1]:
        return None
    return ProductSizes(*(prod(sizes[label] for label in part) for part in parts))


def _labels(equation: str, *ranks: int) -> tuple[str, str, str] | None:
    """Return the labels of two operands and of the result, without dots; None where a label is repeated in a part."""
    inputs, _, out = equation.partition("->")
    parts = inputs.split(",")
    if "->" not in equation:
        counts = Counter(inputs.replace(",", "").replace(".", ""))
        out = ("..." if "..." in inputs else "") + "".join(sorted(key for key, count in counts.items() if count == 1))
    dots = {rank - len(part) + 3 for part, rank in zip(parts, ranks, strict=True) if "..." in part}
    if len(dots) > 1 or (dots and not all("..." in part for part in parts)):
        return None
    spare = "".join(letter for letter in ascii_letters if letter not in equation)[: max(dots, default=0)]
    first, second, result = (part.replace("...", spare) for part in (*parts, out))
    return (first, second, result) if all(len(set(part)) == len(part) for part in (first, second, result)) else None
