"""Search space of the proposers: allowed bits of every decision, their costs and the budgets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agents.base import IntArray


class Constraints(Protocol):
    """Allowed bits, their costs and the limits of the summed costs; `envs.choices.Choices` implements it.

    Arrays are [decision, w_bits, a_bits]; index = bits - 1.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the decisions."""
        ...

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """[decision, w_bits, a_bits]: pairs that may be chosen; dominated and forbidden pairs are False."""
        ...

    @property
    def cost(self) -> NDArray[np.float64]:
        """[constraint, decision, w_bits, a_bits]; the first constraint is the objective's."""
        ...

    @property
    def limits(self) -> NDArray[np.float64]:
        """[constraint]: upper limits of the summed cost."""
        ...

    @property
    def max_totals(self) -> NDArray[np.float64]:
        """[constraint]: largest sums that `fits` accepts, slightly above the limits because sums are rounded."""
        ...

    def total(self, bits: IntArray) -> NDArray[np.float64]:
        """Sum the costs of a policy.

        Args:
            bits: The policy, [decision, 2].

        Returns:
            Cost [constraint].
        """
        ...

    def fits(self, bits: IntArray) -> bool:
        """Check whether a policy is within every limit, up to rounding.

        Args:
            bits: The policy, [decision, 2].

        Returns:
            Whether it is.
        """
        ...

    def nearest(self, bits: IntArray) -> IntArray:
        """Replace the bits of every decision by the nearest allowed pair, whatever it costs.

        Args:
            bits: Any policy, [decision, 2].

        Returns:
            A policy of allowed pairs, [decision, 2].
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Everything that a search method knows before its first evaluation; arrays [decision, w_bits, a_bits].

    A decision is one layer, or several that are tied to one pair of bits and whose costs are summed. Both bit axes
    start at 1 bit: index = bits - 1.

    Raises:
        ValueError: Arrays do not match, a decision has no allowed pair, or an allowed pair has no finite cost or prior.
    """

    constraints: Constraints
    """Allowed pairs of bits, their costs and the budgets."""
    project: Callable[[IntArray], IntArray]
    """Function that brings bits [decision, 2] under every budget and spends what is left; idempotent."""
    prior: NDArray[np.float64] | None = None
    """Expected loss of score by each pair alone; None if it was not measured."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the decisions."""
        return self.constraints.names

    @property
    def allowed(self) -> NDArray[np.bool_]:
        """Mask of the pairs that may be chosen, [decision, w_bits, a_bits]."""
        return self.constraints.allowed

    @property
    def cost(self) -> NDArray[np.float64]:
        """Costs [constraint, decision, w_bits, a_bits]; the first constraint is the objective's."""
        return self.constraints.cost

    @property
    def budget(self) -> NDArray[np.float64]:
        """Upper limits of the summed cost, [constraint]."""
        return self.constraints.limits

    @property
    def max_totals(self) -> NDArray[np.float64]:
        """Largest summed costs that `fits` accepts, [constraint]."""
        return self.constraints.max_totals

    def __post_init__(self) -> None:
        if self.allowed.ndim != 3 or len(self.allowed) != len(self.names):
            raise ValueError(f"allowed must be [{len(self.names)}, w_bits, a_bits], got shape {self.allowed.shape}")
        for name, shape, expected in (
            ("cost", self.cost.shape, (len(self.budget), *self.allowed.shape)),
            ("prior", self.nominal_prior.shape, self.allowed.shape),
        ):
            if shape != expected:
                raise ValueError(f"{name} must have the shape {expected}, got {shape}")
        for name, array in (("cost", self.cost), ("prior", self.nominal_prior)):
            if not np.isfinite(np.where(self.allowed, array, 0.0)).all():
                raise ValueError(f"{name} must be finite for every allowed pair")
        for name, allowed in zip(self.names, self.allowed, strict=True):
            if not allowed.any():
                raise ValueError(f"{name!r} must have at least one pair of bits to choose from, got none")

    @property
    def nominal_prior(self) -> NDArray[np.float64]:
        """`prior`, or else the relative error of uniform quantizers: 4**-w_bits + 4**-a_bits in every decision.

        Each bit halves the step size, so the power of the error relative to the signal falls by four; the relative
        errors of successive layers add up, independently of their size.
        """
        if self.prior is not None:
            return self.prior
        w_error, a_error = (0.25 ** np.arange(1, bits + 1) for bits in self.allowed.shape[1:])
        return np.broadcast_to(w_error[:, None] + a_error, self.allowed.shape)

    def pairs(self, decision: int) -> IntArray:
        """Return the allowed pairs of a decision.

        Args:
            decision: Position of the decision.

        Returns:
            Pairs [pair, 2] in ascending order.
        """
        return np.argwhere(self.allowed[decision]) + 1

    def nearest(self, bits: IntArray) -> IntArray:
        """Replace the bits of every decision by the nearest allowed pair, whatever it costs.

        Args:
            bits: Any policy, [decision, 2].

        Returns:
            A policy of allowed pairs, [decision, 2].
        """
        return self.constraints.nearest(bits)

    def sample(self, generator: np.random.Generator) -> IntArray:
        """Sample a legal policy: uniform pairs for all decisions, then projected.

        Args:
            generator: Source of random numbers.

        Returns:
            The policy, [decision, 2].
        """
        keys = np.where(self.allowed, generator.random(self.allowed.shape), -1.0).reshape(len(self.names), -1)
        pairs = np.divmod(keys.argmax(axis=1), self.allowed.shape[2])
        return self.project(np.stack(pairs, axis=1).astype(np.int64) + 1)

    def total(self, bits: IntArray) -> NDArray[np.float64]:
        """Sum the costs of a policy.

        Args:
            bits: The policy, [decision, 2].

        Returns:
            Cost [constraint].
        """
        return self.constraints.total(bits)

    def expected_loss(self, bits: IntArray) -> float:
        """Sum the `nominal_prior` of a policy.

        Args:
            bits: The policy, [decision, 2].

        Returns:
            Expected loss of score.
        """
        return float(self.nominal_prior[np.arange(len(self.names)), bits[:, 0] - 1, bits[:, 1] - 1].sum())

    def fits(self, bits: IntArray) -> bool:
        """Check whether a policy has allowed pairs only and is within every budget, up to rounding.

        Args:
            bits: The policy, [decision, 2].

        Returns:
            Whether it is legal.

        Raises:
            ValueError: The policy has another shape.
        """
        if bits.shape != (len(self.names), 2):
            raise ValueError(f"a policy of this space must be bits [{len(self.names)}, 2], got shape {bits.shape}")
        if (bits < 1).any() or (bits > self.allowed.shape[1:]).any():
            return False
        if not self.allowed[np.arange(len(bits)), bits[:, 0] - 1, bits[:, 1] - 1].all():
            return False
        return self.constraints.fits(bits)
