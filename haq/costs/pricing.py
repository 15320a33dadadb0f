"""Prices of a network's layers, resolved budgets, and the bits that may be chosen."""

from dataclasses import dataclass

from envs.choices import AllowedBits, BudgetError, Choices
from haq.budgets import ResolvedBudget
from haq.config import SearchConfig
from haq.costs.deployment import deployment_target, end_layers
from haq.costs.target_rules import TargetRules, fixed_a_bits
from haq.costs.unpriced import Refused
from haq.errors import UserError, suggestion
from haq.formatting import format_cost
from hardware_sim.cost import Bits, Cost, CostTable, Objective
from hardware_sim.deployment_target import DeploymentTarget
from hardware_sim.layer import Layer

BASELINE_BITS = 8


@dataclass(frozen=True, slots=True)
class PricedLayers:
    """Layers of a network with their costs on a device at every pair of widths.

    Attributes:
        name: Name of the network.
        layers: Its layers.
        heads: Names of the layers whose outputs are outputs of the network.
        refused: Parts of the network that stay in float and have no price.
        table: Costs of the layers.
    """

    name: str
    layers: tuple[Layer, ...]
    heads: tuple[str, ...]
    refused: tuple[Refused, ...]
    table: CostTable

    @property
    def baseline(self) -> Cost:
        """Cost of 8 bits everywhere."""
        return self.cost(BASELINE_BITS, BASELINE_BITS)

    def cost(self, w_bits: Bits, a_bits: Bits) -> Cost:
        """Return the cost of the same bits in every layer.

        Args:
            w_bits: Bits of the weights.
            a_bits: Bits of the input activations.

        Returns:
            Cost of the whole network.
        """
        count = len(self.layers)
        return self.table.policy_cost([w_bits] * count, [a_bits] * count)


def resolve_budgets(config: SearchConfig, priced: PricedLayers) -> tuple[ResolvedBudget, ...]:
    """Convert the budgets of a configuration to absolute numbers.

    Args:
        config: Settings with the budgets.
        priced: Layers of the network with their costs.

    Returns:
        One budget per limited cost, the objective's first.

    Raises:
        UserError: The device does not model a limited cost.
    """
    allowed = allowed_bits(config, priced)

    def uniform(bits: int) -> Cost:
        pairs = [allowed.uniform(layer.tied_to or layer.name, bits) for layer in priced.layers]
        w_bits, a_bits = zip(*pairs, strict=True)
        return priced.table.policy_cost(w_bits, a_bits)

    return tuple(
        spec.resolve(priced.baseline, hardware=priced.table.hardware, uniform=uniform) for spec in config.budgets
    )


def allowed_bits(config: SearchConfig, priced: PricedLayers) -> AllowedBits:
    """Return the widths to choose from, and the fixed bits of first layer, heads and pinned layers.

    Where the width of activations is fixed since they have no effect on the size, both operands of a product of two
    activations have it.

    Args:
        config: Settings with the widths and pins, and the deployment target.
        priced: Layers of the network.

    Returns:
        The allowed bits.

    Raises:
        UserError: A pin names no layer, or a layer that shares the bits of another; or the deployment target does not
            take the pins, or none of the widths to choose from.
        DescriptionError: The deployment target is unknown, or its file invalid.
    """
    target = deployment_target(config)
    a_bits = _fixed_a_bits(config, target)
    widths: dict[str, tuple[int, str]] = {}
    if config.objective == "size" and a_bits is not None:
        products = (layer.name for layer in priced.layers if not layer.has_weights and not layer.tied_to)
        widths = dict.fromkeys(products, (a_bits, f"--a-bits {a_bits}"))
    ends = {_decides(name, priced) for name in end_layers(priced.layers, priced.heads)}
    if config.first_last_bits is not None:
        widths |= dict.fromkeys(ends, (config.first_last_bits, f"--first-last-bits {config.first_last_bits}"))
    for name, bits in config.pin.items():
        if _decides(name, priced) != name:
            raise UserError(f"--pin {name}: its bits are those of {_decides(name, priced)}; pin that instead")
        widths[name] = bits, f"--pin {name}={bits}"
    if target is None:
        pinned = {name: (bits, bits if a_bits is None else a_bits) for name, (bits, _) in widths.items()}
        return AllowedBits(min_bits=config.min_bits, max_bits=config.max_bits, a_bits=a_bits, pinned=pinned)
    rules = TargetRules(target, ends, a_bits=a_bits)
    found = AllowedBits(
        min_bits=config.min_bits,
        max_bits=config.max_bits,
        a_bits=rules.a_bits,
        pinned={name: rules.pinned(name, bits, flag=flag) for name, (bits, flag) in widths.items()},
        legal={layer.name: rules.legal(layer.name) for layer in priced.layers if not layer.tied_to},
    )
    rules.require_choice(found)
    return found


def _fixed_a_bits(config: SearchConfig, target: DeploymentTarget | None) -> int | None:
    if target is not None:
        return fixed_a_bits(config, target)
    return config.a_bits if config.objective == "size" else None


def _decides(name: str, priced: PricedLayers) -> str:
    """Return the name of the layer that determines the bits of a layer."""
    layers = {layer.name: layer for layer in priced.layers}
    if name not in layers:
        hint = suggestion(name, layers) or f"; the layers are {', '.join(layers)}"
        raise UserError(f"--pin {name!r} names no layer{hint}")
    return layers[name].tied_to or name


def require_feasible(choice: Choices, budgets: tuple[ResolvedBudget, ...], baseline: Cost) -> None:
    """Raise an error if no policy meets the budgets.

    Args:
        choice: Bits that may be chosen, and the limits.
        budgets: Resolved budgets.
        baseline: Cost of 8 bits everywhere.

    Raises:
        UserError: A budget is below the cost of the cheapest bits; the message has both numbers with units.
        BudgetError: Each budget can be met, but not all of them together.
    """
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
    """Return the quantity that an objective minimises.

    Args:
        objective: Name of the objective.
        cost: Cost of a layer or policy.

    Returns:
        Seconds, joules, bytes or bit operations.

    Raises:
        UserError: The device does not model it.
    """
    value = cost.of(objective)
    if value is None:
        raise UserError(f"this device does not model {objective}")
    return value
