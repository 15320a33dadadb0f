"""Parts of a network that stay in float, with reasons: products outside of layers, and weights that no layer uses."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod

from torch import nn
from torch.nn.parameter import is_lazy

from haq.costs.unpriced import Refused
from haq.network.tracing.operators import Product
from haq.network.tracing.weighted_calls import WeightSlice

WEIGHTED_MODULES = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
NOT_CALLED = "was not called on the example input; other inputs may use it, in float"


class Refusals:
    """Collection of what is refused, one entry per name, and of the parameters that this accounts for."""

    def __init__(self) -> None:
        self._found: dict[str, Refused] = {}
        self._parameters: set[str] = set()

    def add(self, name: str, reason: str, *, products: Iterable[Product] = (), parameters: Iterable[str] = ()) -> None:
        """Refuse a part of the network, or add products to one that was refused before and keeps its reason.

        The parameters of the products, and those that are named, count as accounted for.

        Args:
            name: Name of the part.
            reason: Reason that it stays in float.
            products: Products that it computes.
            parameters: Names of parameters that it uses.
        """
        products = list(products)
        refused = self._found.setdefault(name, Refused(name, reason))
        if products:
            macs = (refused.macs or 0) + sum(product.macs for product in products)
            self._found[name] = replace(refused, macs=macs)
        self._parameters.update(parameters, *(product.parameters for product in products))

    def add_unseen(self, products: Iterable[Product]) -> None:
        """Refuse products that were not computed by a known function of torch.

        Args:
            products: Products to refuse.
        """
        for product in products:
            if product.parameters:
                name = product.parameters[0].removesuffix(".weight")
                reason = f"multiplies with {product.parameters[0]} in {product.operator}, which has no quantized form"
            else:
                name = product.module or product.operator
                reason = f"multiplies two activations in {product.operator}, which has no quantized form"
            self.add(name, reason, products=[product])

    def add_rest(
        self,
        model: nn.Module,
        called: Iterable[str],
        weights: Iterable[WeightSlice],
        readers: Mapping[str, Sequence[str]],
    ) -> None:
        """Refuse modules that were not called, and parameters of two or more dimensions that nothing accounts for.

        Args:
            model: Network that was traced.
            called: Paths of the called modules.
            weights: Weights of the layers.
            readers: Operators that read a parameter, by its name.
        """
        weights, called = set(weights), set(called)
        called |= {each.parameter.rpartition(".")[0] for each in weights}
        for path, module in model.named_modules():
            if isinstance(module, WEIGHTED_MODULES) and path not in called:
                self.add(path, NOT_CALLED, parameters=[f"{path}.{name}" for name, _ in module.named_parameters()])
        for name, parameter in model.named_parameters():
            if is_lazy(parameter) or parameter.ndim < 2 or name in self._parameters:
                continue
            missing = parameter.numel() - _covered(each for each in weights if each.parameter == name)
            if missing:
                self.add(name, _reason(missing, parameter.numel(), readers.get(name, ())))

    def __iter__(self) -> Iterator[Refused]:
        return iter(self._found.values())


def _covered(weights: Iterable[WeightSlice]) -> int:
    """Return the number of elements of one parameter that lie in at least one of its slices."""
    covered, end = 0, 0
    for start, stop in sorted((each.offset, each.offset + prod(each.shape)) for each in weights):
        covered += max(0, stop - max(start, end))
        end = max(end, stop)
    return covered


def _reason(missing: int, count: int, readers: Sequence[str]) -> str:
    if missing < count:
        return f"{missing:,} of its {count:,} weights are in no layer"
    operators = list(dict.fromkeys(readers))
    if not operators:
        return "was not seen to be used on the example input; other inputs may use it, in float"
    return f"is read by {', '.join(operators[:3])}{', ...' if len(operators) > 3 else ''}, not by a layer"
