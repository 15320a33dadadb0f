"""Tracing of the quantizable layers of a network by running it once."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from haq.costs.unpriced import Refused
from haq.errors import UserError
from haq.execution.networks import NETWORK_FAILURES, materialize, require_runs, run_network, switch_to_eval
from haq.execution.structures import Structure, tensors
from haq.execution.user_code import modes_kept
from haq.network.tracing.call_mode import MultiplicationMode
from haq.network.tracing.layer_shapes import layer_kind, layer_shape, product_shape
from haq.network.tracing.names import LayerName, free_name, part_of, unique_names
from haq.network.tracing.operators import OperatorCalls, Product
from haq.network.tracing.origins import Origins
from haq.network.tracing.products import MULTIPLYING, ActivationProduct, product_sizes
from haq.network.tracing.refusals import Refusals
from haq.network.tracing.running_modules import RunningModules
from haq.network.tracing.weighted_calls import Call, WeightIndex, WeightSlice, is_layer
from hardware_sim.layer import Layer, LayerKind


@dataclass(frozen=True, slots=True)
class Site:
    """Position of a layer in a forward pass.

    Attributes:
        weights: Weights of the layer; for a product of two activations its place in the network.
        call: Number of the call of these weights, or of this product, from 1.
    """

    weights: WeightSlice | ActivationProduct
    call: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Result of tracing a network.

    Attributes:
        layers: Layers in the order of execution.
        sites: Their positions in a forward pass.
        refused: Parts that stay in float.
        heads: Names of the layers whose outputs are outputs of the network and not read by other layers.
    """

    layers: tuple[Layer, ...]
    sites: tuple[Site, ...]
    refused: tuple[Refused, ...]
    heads: tuple[str, ...]


def trace_layers(model: nn.Module, example: Structure) -> tuple[Layer, ...]:
    """Return the quantizable layers of a network, in the order of execution; see `trace`.

    Args:
        model: Network.
        example: Input of one item, [1, ...]; see `haq.execution.structures` for structured inputs.

    Returns:
        The layers.

    Raises:
        UserError: The network does not run on the example, or has no quantizable layer.

    Examples:
        >>> network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU())
        >>> [layer.name for layer in trace_layers(network, torch.zeros(1, 3, 5, 5))]
        ['0']
    """
    return trace(model, example).layers


def trace(model: nn.Module, example: Structure) -> Trace:
    """Run a network once, in evaluation mode and without gradients, and record every layer that it calls.

    A layer is named after the path of the module that owns its weights. Each further call of the same weights is a
    layer of its own, `path:2`, tied to the first. A recurrent module has two layers for each of its own layers and
    directions: `path.ih_l0`, a linear layer, multiplies the inputs of all steps, and `path.hh_l0` the state of each
    step; with a projection there is also `path.hr_l0`. A product of two activations is named after the module that
    computes it and the operator: `path.matmul`, `path.matmul_2`, or `path.qk` and `path.pv` in attention. The network
    is not changed.

    Args:
        model: Network.
        example: Input of one item, [1, ...]; see `haq.execution.structures` for structured inputs.

    Returns:
        The layers, their positions, and the parts that stay in float.

    Raises:
        UserError: The network does not run on the example, or has no quantizable layer, or one of unprintable name.
    """
    with modes_kept(model):
        try:
            switch_to_eval(model)
            materialize(model, example)
            tracer = _Tracer(model, example)
            with torch.no_grad(), tracer.operators:
                outputs = run_network(model, example, tracer)
        except NETWORK_FAILURES as error:
            require_runs(model, example)
            error.add_note("The network runs on this input by itself: this is an error in haq, not in the network.")
            raise
    result = tracer.result(model, outputs)
    if not result.layers:
        why = "; ".join(map(str, result.refused[:3]))
        raise UserError(f"the model has no quantizable layer{f' ({why})' if why else ''}")
    for layer in result.layers:
        if not layer.name.isprintable():
            raise UserError(f"the name of layer {layer.name!r} has unprintable characters; rename the module")
    return result


class _Tracer(MultiplicationMode):
    """Function mode that records the calls of one forward pass, and which activation tensors each layer reads."""

    def __init__(self, model: nn.Module, example: Structure) -> None:
        self._running = RunningModules(model, self._leave)
        self._index = WeightIndex(model)
        super().__init__(self._running, weights=self._index)
        self.operators = OperatorCalls(model, lambda: self._running.path)
        self.origins = Origins(example, self._hold)
        self._layers: list[Layer] = []
        self._sites: list[Site] = []
        self._refusals = Refusals()
        self._called: set[str] = set()
        self._names: dict[WeightSlice | ActivationProduct, LayerName] = {}
        self._calls: Counter[WeightSlice | ActivationProduct] = Counter()
        self._numbers: dict[WeightSlice, int] = {}
        self._transposed: dict[str, bool] = {}
        """Whether the layers of a parameter read it transposed."""
        self._modules_by_path = dict(model.named_modules(remove_duplicate=False))

    def weighted(self, call: Call) -> Tensor:
        first = len(self.operators.products)
        output = call.run(call.input, call.factor)
        if call.factor.ndim < 2:  # reported with the other products that have no quantized form
            self.origins.propagate(call.function, [call.input], [output])
            return output
        products = self.operators.pop_products(first)
        weights = self._index.find(call.factor)
        if weights is None or not is_layer(call, weights) or self._is_read_otherwise(weights):
            self.origins.propagate(call.function, [call.input], [output])
            self._refuse(call.operation.kind, self._reason(call, weights), [call.factor], products)
        elif call.continues:
            self._extend(weights, output)
        else:
            self._names.setdefault(weights, self._name(weights))
            self._numbers[weights] = len(self._layers) + 1
            self._add(weights, output, kind=layer_kind(call), inputs=[call.input], shape=layer_shape(call, output))
        return output

    def multiplied(self, product: ActivationProduct, call: Call) -> Tensor:
        first = len(self.operators.products)
        output = call.run(call.input, call.factor)
        operands, products = [call.input, call.factor], self.operators.pop_products(first)
        sizes = product_sizes(call) if output.is_floating_point() else None
        if sizes is None or not all(map(self.operators.depends_on_input, operands)):
            self._refuse_product(product.operator, operands, products)
            self.origins.propagate(None, operands, [output])
            return output
        self._called.add(product.module)
        self._names.setdefault(product, LayerName(product.name, product.name))
        self._add(product, output, kind="matmul", inputs=operands, shape=product_shape(sizes))
        return output

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        first = len(self.operators.products)
        result = function(*args, **kwargs)
        operands = list(tensors((args, kwargs)))
        if function in MULTIPLYING:
            self._refuse_product(MULTIPLYING[function], operands, self.operators.pop_products(first))
        self.origins.propagate(function, operands, tensors(result))
        return result

    def result(self, model: nn.Module, outputs: Any) -> Trace:
        """Return the trace, after the network has returned `outputs`."""
        self._refusals.add_unseen(self.operators.products)
        weights = [site.weights for site in self._sites if isinstance(site.weights, WeightSlice)]
        self._refusals.add_rest(model, self._called, weights, self.operators.readers)
        layers = self._named_layers()
        numbers = {number for tensor in tensors(outputs) for number in self.origins.of(tensor) if number}
        weighted = [layer for layer in layers if layer.has_weights]
        read = {number for layer in layers for number in layer.input_tensors}  # such as the state of a recurrent layer
        heads = [layers[number - 1] for number in sorted(numbers - read or numbers)] or weighted[-1:]
        return Trace(layers, tuple(self._sites), tuple(self._refusals), tuple(layer.name for layer in heads))

    def _is_read_otherwise(self, weights: WeightSlice) -> bool:
        """Return whether a layer reads the same parameter, but not in the same order of its dimensions."""
        return self._transposed.setdefault(weights.parameter, weights.is_transposed) != weights.is_transposed

    def _reason(self, call: Call, weights: WeightSlice | None) -> str:
        """Return why a call is not a layer."""
        if weights is not None and self._is_read_otherwise(weights):
            return f"another layer reads {weights.parameter} transposed to it, with scales of other channels"
        if weights is not None:
            return "three-dimensional convolutions have no cost model"
        if name := self._index.name(call.factor):
            return f"it reads {name} in another order or with gaps, not as it is stored"
        return "its weights are computed while the network runs"

    def _add(
        self,
        weights: WeightSlice | ActivationProduct,
        output: Tensor,
        *,
        kind: LayerKind,
        inputs: Sequence[Tensor],
        shape: Mapping[str, Any],
    ) -> None:
        """Add a layer that wrote a tensor; its inputs are the tensors of its operands that are activations."""
        self._calls[weights] += 1
        number = len(self._layers) + 1
        first, *others = map(self.origins.of, inputs)
        read = first.union(*others)
        self._layers.append(
            Layer(
                name=f"{number}",
                kind=kind,
                input_tensors=tuple(sorted(read)),
                second_tensors=tuple(sorted(read - first)),
                output_tensor=number,
                **shape,
            )
        )
        self._sites.append(Site(weights, self._calls[weights]))
        self.origins.record(output, frozenset({number}))

    def _extend(self, weights: WeightSlice, output: Tensor) -> None:
        """Add one step to the recurrent layer that last used these weights."""
        number = self._numbers[weights]
        steps, sequences = self._layers[number - 1].output_size
        size = (steps + 1, sequences)
        self._layers[number - 1] = replace(self._layers[number - 1], input_size=size, output_size=size)
        self.origins.record(output, frozenset({number}))

    def _hold(self, numbers: frozenset[int], until: int) -> None:
        """Record that tensors stay in memory while the layer runs that writes the tensor `until`."""
        layer = self._layers[until - 1]
        self._layers[until - 1] = replace(layer, held_tensors=tuple(sorted({*layer.held_tensors, *numbers})))

    def _named_layers(self) -> tuple[Layer, ...]:
        """Return the layers with their names, each of which depends on all others."""
        names = dict(zip(self._names, unique_names(list(self._names.values())), strict=True))
        taken = dict.fromkeys(names.values())
        named = []
        for layer, site in zip(self._layers, self._sites, strict=True):
            first = names[site.weights]
            if site.call == 1:
                named.append(replace(layer, name=first))
            else:
                name = free_name(f"{first}:{site.call}", taken)
                taken[name] = None
                named.append(replace(layer, name=name, tied_to=first))
        return tuple(named)

    def _name(self, weights: WeightSlice) -> LayerName:
        """Return the name by the innermost running module that has this parameter, and its name there."""
        path, _, leaf = weights.parameter.rpartition(".")
        parameter = getattr(self._modules_by_path[path], leaf)
        owner = self._running.owner(parameter)
        if owner is not None:
            path, leaf = owner
            self._called.add(path)
        return LayerName.of(path, leaf, part_of(parameter.shape, weights))

    def _leave(self, args: Any, outputs: Any) -> None:
        """Follow the origins of tensors through a module that has run."""
        with torch._C.DisableTorchFunction():
            self.origins.propagate_through_module(tensors(args), tensors(outputs))

    def _refuse_product(self, what: str, operands: Sequence[Tensor], products: Sequence[Product]) -> None:
        weights = [name for tensor in operands if tensor.ndim > 1 and (name := self._index.name(tensor))]
        weights += [name for product in products for name in product.parameters]
        if weights:
            reason = f"multiplies with {weights[0]} in a way that has no quantized form"
        elif not all(map(self.operators.depends_on_input, operands)):
            reason = "multiplies with a constant that is no parameter, which stays in float"
        else:
            reason = "multiplies two activations in a way that has no quantized form"
        self._refuse(what, reason, operands, products)

    def _refuse(self, what: str, reason: str, operands: Iterable[Tensor], products: Sequence[Product]) -> None:
        name = self._running.path
        parameters = [found for tensor in operands if (found := self._index.name(tensor))]
        reason = reason if name else f"{what}: {reason}"
        self._refusals.add(name or what, reason, products=products, parameters=parameters)
        self._called.add(name)
