"""Policies near the budget, with which the outputs of engines are compared before a search."""

from haq.config import SearchConfig
from haq.costs.pricing import PricedLayers, allowed_bits, cost_in, resolve_budgets
from haq.policy import PolicyBits

SPREAD = 2
"""Difference in bits between the layers of a mixed policy and the uniform ones."""


def policies_near_budget(config: SearchConfig, priced: PricedLayers) -> list[PolicyBits]:
    """Return the largest uniform bits within the budgets, and a mixed policy of wider and narrower layers around them.

    Both use only bits that the configuration allows.

    Args:
        config: Settings of bits and budgets.
        priced: Layers with their costs.

    Returns:
        The two policies.

    Raises:
        UserError: The device does not model the cost that a budget limits.
    """
    allowed, budgets = allowed_bits(config, priced), resolve_budgets(config, priced)
    owners = [layer.tied_to or layer.name for layer in priced.layers]
    places = {owner: place for place, owner in enumerate(dict.fromkeys(owners))}

    def policy(w_widths: tuple[int, ...], a_widths: tuple[int, ...]) -> PolicyBits:
        """Assign the widths to the decisions, repeated in order."""
        bits = [
            allowed.nearest_legal(
                owner,
                (
                    allowed.uniform(owner, w_widths[places[owner] % len(w_widths)])[0],
                    allowed.uniform(owner, a_widths[places[owner] % len(a_widths)])[1],
                ),
            )
            for owner in owners
        ]
        w_bits, a_bits = zip(*bits, strict=True)
        return w_bits, a_bits

    def fits(width: int) -> bool:
        cost = priced.table.policy_cost(*policy((width,), (width,)))
        return all(cost_in(each.budget.objective, cost) <= each.budget.limit for each in budgets)

    widths = range(config.min_bits, config.max_bits + 1)
    nearest = max(filter(fits, widths), default=config.min_bits)
    low, high = max(nearest - SPREAD, config.min_bits), min(nearest + SPREAD, config.max_bits)
    return [policy((nearest,), (nearest,)), policy((low, nearest, high), (high, low, nearest))]
