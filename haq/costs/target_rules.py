"""Rules of a deployment target for the bits that a search may choose, and contradictions of settings with them."""

from collections.abc import Set
from dataclasses import dataclass

from envs.choices import AllowedBits
from haq.config import SearchConfig
from haq.errors import UserError
from hardware_sim.deployment_target import DeploymentTarget, Pair

DEFAULT_A_BITS = SearchConfig.model_fields["a_bits"].default


@dataclass(frozen=True, slots=True)
class TargetRules:
    """Legal bits of the layers of a network on a deployment target.

    Attributes:
        target: The target.
        ends: Names of the first layer and of those that produce outputs, as far as they have bits of their own.
        a_bits: Width of all activations; None where it is chosen.
    """

    target: DeploymentTarget
    ends: Set[str]
    a_bits: int | None

    def legal(self, name: str) -> frozenset[Pair]:
        """Return the legal pairs of a layer.

        Args:
            name: Name of the layer.

        Returns:
            Pairs (w_bits, a_bits).
        """
        return self.target.end_pairs if name in self.ends else self.target.pairs

    def pinned(self, name: str, bits: int, *, flag: str) -> Pair:
        """Return the pair of a layer that is pinned to a width.

        The width is that of the weights, and of the activations too where that is legal; else activations get the fixed
        width, or the only one that is legal with these weights.

        Args:
            name: Name of the layer.
            bits: The width.
            flag: Flag that pins it, for the message.

        Returns:
            (w_bits, a_bits).

        Raises:
            UserError: No such pair is legal.
        """
        found = [a_bits for w_bits, a_bits in self.legal(name) if w_bits == bits]
        wanted = bits if self.a_bits is None else self.a_bits
        if wanted in found:
            return bits, wanted
        if len(found) == 1 and self.a_bits is None:
            return bits, found[0]
        raise UserError(f"{flag} is not legal for layer {name!r}: {self._text(name)}")

    def require_choice(self, allowed: AllowedBits) -> None:
        """Check that every layer that is not pinned has a legal pair among the widths to choose from.

        Args:
            allowed: The widths to choose from, with the legal pairs of all layers.

        Raises:
            UserError: A layer has none; the message names it.
        """
        for name, pairs in allowed.legal.items():
            if name not in (allowed.pinned or {}) and not any(_is_within(pair, allowed) for pair in pairs):
                activations = "" if allowed.a_bits is None else f" with activations of {allowed.a_bits} bits"
                raise UserError(
                    f"--min-bits {allowed.min_bits} and --max-bits {allowed.max_bits}{activations} leave no legal bits "
                    f"for layer {name!r}: {self._text(name)}"
                )

    def _text(self, name: str) -> str:
        return f"--deploy {self.target.name} takes {self.target.legal_text(is_end=name in self.ends)}"


def fixed_a_bits(config: SearchConfig, target: DeploymentTarget) -> int | None:
    """Return the width of all activations on a target.

    Args:
        config: Settings of bits and objective.
        target: Deployment target.

    Returns:
        The width: that of the settings under the size objective, or the only legal one; None where it is chosen.

    Raises:
        UserError: The width in the settings is not legal.
    """
    legal = sorted({a_bits for _, a_bits in target.pairs})
    if config.objective != "size":
        return legal[0] if len(legal) == 1 else None
    if config.a_bits in legal:
        return config.a_bits
    if config.a_bits != DEFAULT_A_BITS:
        raise UserError(f"--a-bits {config.a_bits} is not legal: --deploy {target.name} takes {target.legal_text()}")
    return legal[-1]


def _is_within(pair: Pair, allowed: AllowedBits) -> bool:
    w_bits, a_bits = pair
    low, high = (allowed.min_bits, allowed.max_bits) if allowed.a_bits is None else (allowed.a_bits, allowed.a_bits)
    return allowed.min_bits <= w_bits <= allowed.max_bits and low <= a_bits <= high
