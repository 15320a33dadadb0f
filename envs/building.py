"""Construction of the choices of a network from its cost table, its budgets and the widths to choose from."""

from collections.abc import Sequence, Set

import numpy as np

from envs.choices import AllowedBits, BoolArray, Budget, Choices
from envs.pairs import MAX_BITS
from hardware_sim.cost import CostTable, UnsupportedError
from hardware_sim.layer import decision_index


def build_choices(table: CostTable, budgets: Sequence[Budget], bits: AllowedBits) -> Choices:
    """Build the choices of a network: sum tied layers, forbid widths out of range or not legal, fix what is pinned.

    The device's own limits are constraints like the budgets.

    Args:
        table: Cost of the layers.
        budgets: Upper limits of the summed costs; the first one is the objective's.
        bits: Widths to choose from.

    Returns:
        Allowed pairs, their costs and the limits.

    Raises:
        ValueError: A pin names no layer, no legal pair is left for a layer, or there is no budget.
        UnsupportedError: The device has no cost for an allowed pair.
    """
    if not budgets:
        raise ValueError("there is no budget: give at least one, the objective's first")
    layers, owner = table.layers, decision_index(table.layers)
    decisions = sorted(set(owner))
    order = {layer: number for number, layer in enumerate(decisions)}
    decision_of_layer = tuple(order[layer] for layer in owner)
    names = tuple(layers[layer].name for layer in decisions)
    allowed = _allowed(names, bits, ends={names[decision_of_layer[0]], names[decision_of_layer[-1]]})
    tables = [table.of(budget.objective) for budget in budgets] + [limit.table for limit in table.limits]
    cost = np.zeros((len(tables), len(names), MAX_BITS, MAX_BITS))
    for constraint, array in zip(cost, tables, strict=True):
        np.add.at(constraint, list(decision_of_layer), array[:, :MAX_BITS, :MAX_BITS])
    _require_costs(table.hardware, names, np.isnan(cost).any(axis=0) & allowed)
    return Choices(
        names,
        decision_of_layer,
        allowed,
        np.nan_to_num(cost, nan=np.inf),
        np.array([budget.limit for budget in budgets] + [limit.value for limit in table.limits]),
        tuple([budget.objective for budget in budgets] + [limit.name for limit in table.limits]),
    )


def _allowed(names: tuple[str, ...], bits: AllowedBits, *, ends: Set[str]) -> BoolArray:
    """Mask of allowed pairs; `ends` are the decisions of the first and of the last layer in the order of execution."""
    allowed = np.zeros((len(names), MAX_BITS, MAX_BITS), dtype=np.bool_)
    a_range = (
        slice(bits.a_bits - 1, bits.a_bits) if bits.a_bits is not None else slice(bits.min_bits - 1, bits.max_bits)
    )
    allowed[:, bits.min_bits - 1 : bits.max_bits, a_range] = True
    legal = _legal(names, bits)
    allowed &= legal
    pinned = dict.fromkeys(ends, (8, 8)) if bits.pinned is None else bits.pinned
    for name, (w_bits, a_bits) in pinned.items():
        if name not in names:
            raise ValueError(f"{name!r} is pinned but is no layer with bits of its own; these are {', '.join(names)}")
        allowed[names.index(name)] = False
        allowed[names.index(name), w_bits - 1, a_bits - 1] = legal[names.index(name), w_bits - 1, a_bits - 1]
    for name, mask in zip(names, allowed, strict=True):
        if not mask.any():
            raise ValueError(f"no legal bits are left for layer {name!r}")
    return allowed


def _legal(names: tuple[str, ...], bits: AllowedBits) -> BoolArray:
    """Mask of the pairs that are legal on the deployment target."""
    legal = np.ones((len(names), MAX_BITS, MAX_BITS), dtype=np.bool_)
    for decision, name in enumerate(names):
        if name in bits.legal:
            legal[decision] = False
            for w_bits, a_bits in bits.legal[name]:
                legal[decision, w_bits - 1, a_bits - 1] = True
    return legal


def _require_costs(hardware: str, names: tuple[str, ...], missing: BoolArray) -> None:
    pairs = [f"{names[d]} at {w + 1}x{a + 1}" for d, w, a in np.argwhere(missing)]
    if pairs:
        more = f" and {len(pairs) - 4} more" if len(pairs) > 4 else ""
        raise UnsupportedError(f"{hardware} has no cost for {', '.join(pairs[:4])}{more} (weight x activation bits)")
