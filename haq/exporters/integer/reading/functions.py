"""Functions of single values: activations, as they stand in ONNX graphs in one node or several."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf, expit

Floats = NDArray[np.float64]
Attributes = Mapping[str, Any]


def _identity(x: Floats) -> Floats:
    return x


@dataclass(frozen=True, slots=True)
class Function:
    """Function of single values, applied to every entry of a tensor.

    Two functions are equal if their keys are.

    Attributes:
        key: Identification: the bounds of a clip, or the name of the tensor that holds the result.
        bounds: Lower and upper bound if the function is a clip; None for other functions.
        apply: The function, in float64.
    """

    key: str = "clip -inf inf"
    bounds: tuple[float, float] | None = field(default=(-math.inf, math.inf), compare=False)
    apply: Callable[[Floats], Floats] = field(default=_identity, compare=False)

    @property
    def keeps_zero(self) -> bool:
        """Whether zero is mapped to zero."""
        return float(self.apply(np.zeros(1))[0]) == 0.0

    def then(self, outer: "Function") -> "Function":
        """Return the composition with a function that is applied to the result.

        Args:
            outer: The function applied afterwards.

        Returns:
            The composition.
        """
        if outer == IDENTITY:
            return self
        if self == IDENTITY:
            return outer
        if self.bounds is not None and outer.bounds is not None:
            return clip(*(float(np.clip(bound, *outer.bounds)) for bound in self.bounds))
        inner = self.apply
        return Function(f"{outer.key} of {self.key}", None, lambda x: outer.apply(inner(x)))


IDENTITY = Function()
"""The function that changes nothing."""


def clip(low: float, high: float) -> Function:
    """Return a function that clips values.

    Args:
        low: Lower bound, -inf for none.
        high: Upper bound, inf for none.

    Returns:
        The function.

    Examples:
        >>> clip(0.0, math.inf).then(clip(-1.0, 6.0)) == clip(0.0, 6.0)
        True
    """
    return Function(f"clip {low} {high}", (low, high), lambda x: np.clip(x, low, high))


def is_pointwise(operator: str) -> bool:
    """Return whether an ONNX operator computes every entry of its output from the entries at the same place.

    Args:
        operator: Name of the operator.

    Returns:
        True if it is known to.
    """
    return operator in _OPERATORS


def evaluate(operator: str, inputs: list[Floats], attributes: Attributes) -> Floats:
    """Compute a pointwise ONNX operator in float64.

    Args:
        operator: Name of the operator, for which `is_pointwise` holds.
        inputs: Its inputs; shapes broadcast.
        attributes: Its attributes.

    Returns:
        Its output.

    Examples:
        >>> evaluate("Mul", [np.array([2.0]), np.array([3.0])], {}).tolist()
        [6.0]
    """
    with np.errstate(all="ignore"):  # single values may overflow where the table clips them
        return _OPERATORS[operator](inputs, attributes)


def _hard_sigmoid(x: Floats, alpha: float, beta: float) -> Floats:
    return np.asarray(np.clip(alpha * x + beta, 0.0, 1.0))


def _softplus(x: Floats) -> Floats:
    return np.logaddexp(0.0, x)


def _gelu(x: Floats, approximate: bytes) -> Floats:
    if approximate == b"tanh":
        return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))
    return np.asarray(0.5 * x * (1 + erf(x / math.sqrt(2))))


def _clip(inputs: list[Floats]) -> Floats:
    low, high = [*inputs[1:], None, None][:2]
    return np.clip(inputs[0], -np.inf if low is None else low, np.inf if high is None else high)


def _elu(x: Floats, alpha: float, gamma: float = 1.0) -> Floats:
    return gamma * np.where(x > 0, x, alpha * np.expm1(x))


_OPERATORS: Mapping[str, Callable[[list[Floats], Attributes], Floats]] = {
    "Identity": lambda x, _: x[0],
    "Dropout": lambda x, _: x[0],
    "Cast": lambda x, _: x[0],
    "Relu": lambda x, _: np.maximum(x[0], 0.0),
    "Clip": lambda x, _: _clip(x),
    "LeakyRelu": lambda x, a: np.where(x[0] < 0, a.get("alpha", 0.01) * x[0], x[0]),
    "PRelu": lambda x, _: np.where(x[0] < 0, x[1] * x[0], x[0]),
    "Elu": lambda x, a: _elu(x[0], a.get("alpha", 1.0)),
    "Selu": lambda x, a: _elu(
        x[0], a.get("alpha", 1.67326319217681884765625), a.get("gamma", 1.05070102214813232421875)
    ),
    "Sigmoid": lambda x, _: np.asarray(expit(x[0])),
    "HardSigmoid": lambda x, a: _hard_sigmoid(x[0], a.get("alpha", 0.2), a.get("beta", 0.5)),
    "HardSwish": lambda x, _: x[0] * _hard_sigmoid(x[0], 1 / 6, 0.5),
    "Swish": lambda x, a: x[0] * expit(a.get("alpha", 1.0) * x[0]),
    "Tanh": lambda x, _: np.tanh(x[0]),
    "Softplus": lambda x, _: _softplus(x[0]),
    "Mish": lambda x, _: x[0] * np.tanh(_softplus(x[0])),
    "Gelu": lambda x, a: _gelu(x[0], a.get("approximate", b"none")),
    "Erf": lambda x, _: np.asarray(erf(x[0])),
    "Exp": lambda x, _: np.exp(x[0]),
    "Log": lambda x, _: np.log(x[0]),
    "Sqrt": lambda x, _: np.sqrt(x[0]),
    "Abs": lambda x, _: np.abs(x[0]),
    "Neg": lambda x, _: -x[0],
    "Reciprocal": lambda x, _: 1 / x[0],
    "Add": lambda x, _: x[0] + x[1],
    "Sub": lambda x, _: x[0] - x[1],
    "Mul": lambda x, _: x[0] * x[1],
    "Div": lambda x, _: x[0] / x[1],
    "Pow": lambda x, _: x[0] ** x[1],
    "Greater": lambda x, _: np.asarray(x[0] > x[1], np.float64),
    "Less": lambda x, _: np.asarray(x[0] < x[1], np.float64),
    "Where": lambda x, _: np.where(x[0] != 0, x[1], x[2]),
    "Min": lambda x, _: np.minimum.reduce(x),
    "Max": lambda x, _: np.maximum.reduce(x),
}
