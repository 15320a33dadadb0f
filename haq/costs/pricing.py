"""What a network may cost: its price at every pair of bits, the budgets in absolute numbers, and the widths allowed."""

from dataclasses import dataclass

from envs.choices import AllowedBits, BudgetError, Choices
from haq.budgets import ResolvedBudget
from haq.config import SearchConfig
from haq.costs.unpriced import Refused
from haq.errors import UserError
from haq.formatting import format_cost
from hardware_sim.cost import Bits, Cost, CostTable, Objective
from hardware_sim.layer import Layer

BASELINE_BITS = 8


@dataclass(frozen=True, slots=True)
class PricedLayers:
    """The layers of a network, and what they cost on a device at every pair of widths."""

    name: str
    """The network's."""
    layers: tuple[Layer, ...]
    heads: tuple[str, ...]
    """Names of the layers whose outputs are the network's own."""
    refused: tuple[Refused, ...]
    """Parts of the network that stay in float and have no price."""
    table: CostTable

    @property
    def baseline(self) -> Cost:
        """The cost of 8 bits everywhere."""
        return self.cost(BASELINE_BITS, BASELINE_BITS)

    def cost(self, w_bits: Bits, a_bits: Bits) -> Cost:
        """The cost of the same bits in every layer."""
        count = len(self.layers)
        return self.table.policy_cost([w_bits] * count, [a_bits] * count)


def resolve_budgets(config: SearchConfig, priced: PricedLayers) -> tuple[ResolvedBudget, ...]:
    """The budgets in absolute numbers, the objective's first. Raises UserError."""
    allowed = allowed_bits(config, priced)

    def uniform(bits: int) -> Cost:
        pairs = [allowed.uniform(layer.tied_to or layer.name, bits) for layer in priced.layers]
        w_bits, a_bits = zip(*pairs, strict=True)
        return priced.table.policy_cost(w_bits, a_bits)

    return tuple(
        spec.resolve(priced.baseline, hardware=priced.table.hardware, uniform=uniform) for spec in config.budgets
    )


def allowed_bits(config: SearchConfig, priced: PricedLayers) -> AllowedBits:
    """The widths to choose from, with first layer, last layer of each head, and the user's pins.

    Raises UserError for a pin that names no layer, or one that takes its bits from another.
    """
    size_only = config.objective == "size"
    pins: dict[str, int] = {}
    if config.first_last_bits is not None:
        ends = (priced.layers[0].name, *priced.heads)
        pins |= dict.fromkeys((_decides(name, priced) for name in ends), config.first_last_bits)
    for name, bits in config.pin.items():
        if _decides(name, priced) != name:
            raise UserError(f"--pin {name}: its bits are those of {_decides(name, priced)}; pin that instead")
        pins[name] = bits
    return AllowedBits(
        min_bits=config.min_bits,
        max_bits=config.max_bits,
        a_bits=config.a_bits if size_only else None,
        pinned={name: (bits, config.a_bits if size_only else bits) for name, bits in pins.items()},
    )


def _decides(name: str, priced: PricedLayers) -> str:
    """The layer whose bits a layer takes."""
    layers = {layer.name: layer for layer in priced.layers}
    if name not in layers:
        raise UserError(f"--pin {name!r} names no layer; the layers are {', '.join(layers)}")
    return layers[name].tied_to or name


def require_feasible(choice: Choices, budgets: tuple[ResolvedBudget, ...], baseline: Cost) -> None:
    """Raise UserError, with units and the ratio that it would take, for a budget that no policy can meet."""
    try:
        choice.require_feasible()
    except BudgetError as error:
        for resolved, least in zip(budgets, choice.min_totals, strict=False):
            budget, base = resolved.budget, cost_in(resolved.budget.objective, baseline)
            if least > budget.limit:
                wanted = f"{format_cost(budget.objective, budget.limit)} ({resolved.ratio:.3g} of 8 bits)"
                possible = f"{format_cost(budget.objective, least)} ({least / base:.3g} of 8 bits)"
                raise UserError(
                    f"no policy meets the {budget.objective} budget of {wanted}: the cheapest bits cost {possible}"
                ) from error
        raise


def cost_in(objective: Objective, cost: Cost) -> float:
    """The number that the objective minimises, known to be modelled."""
    value = cost.of(objective)
    if value is None:
        raise UserError(f"this device does not model {objective}")
    return value
