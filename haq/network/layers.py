"""Tracing of the quantizable layers of a network by running it once."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from haq.costs.unpriced import Refused
from haq.errors import UserError
from haq.execution.networks import materialize, run_network, switch_to_eval
from haq.execution.structures import Structure, describe, tensors
from haq.execution.user_code import modes_kept, one_line
from haq.network.tracing.layer_shapes import layer_kind, layer_shape
from haq.network.tracing.names import LayerName, free_name, part_of, unique_names
from haq.network.tracing.operators import OperatorCalls, Product
from haq.network.tracing.origins import Origins
from haq.network.tracing.refusals import Refusals
from haq.network.tracing.weighted_calls import PRODUCTS, Call, WeightedCalls, WeightIndex, WeightSlice, is_layer
from hardware_sim.layer import Layer


@dataclass(frozen=True, slots=True)
class Site:
    """Position of a layer in a forward pass.

    Attributes:
        weights: Weights of the layer.
        call: Number of the call of these weights, from 1.
    """

    weights: WeightSlice
    call: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Result of tracing a network.

    Attributes:
        layers: Layers in the order of execution.
        sites: Their positions in a forward pass.
        refused: Parts that stay in float.
        heads: Names of the layers whose outputs are outputs of the network.
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
    step; with a projection there is also `path.hr_l0`. The network is not changed.

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
            with torch.no_grad(), _watched(model, tracer), tracer.operators:
                outputs = run_network(model, example, tracer)
        except _FAILURES as error:
            _require_runs(model, example)
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


def _require_runs(model: nn.Module, example: Structure) -> None:
    """Raise UserError if a network does not run on an input without tracing."""
    try:
        with torch.no_grad():
            run_network(model, example)
    except _FAILURES as error:
        raise UserError(
            f"the model does not run on an input of shape {describe(example)}: {one_line(error)}"
        ) from error


_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError)
"""Exceptions of networks on inputs of another form than they expect."""


class _Tracer(WeightedCalls):
    """Function mode that records the calls of one forward pass, and which activation tensors each layer reads."""

    def __init__(self, model: nn.Module, example: Structure) -> None:
        super().__init__()
        self.stack: list[tuple[str, nn.Module]] = []
        """Running modules, outermost first."""
        self.operators = OperatorCalls(model, lambda: self.stack[-1][0] if self.stack else "")
        self.origins = Origins(example, self._hold)
        self._layers: list[Layer] = []
        self._sites: list[Site] = []
        self._refusals = Refusals()
        self._called: set[str] = set()
        self._names: dict[WeightSlice, LayerName] = {}
        self._calls: Counter[WeightSlice] = Counter()
        self._numbers: dict[WeightSlice, int] = {}
        self._index = WeightIndex(model)
        self._modules = dict(model.named_modules(remove_duplicate=False))

    def weighted(self, call: Call) -> Tensor:
        first = len(self.operators.products)
        output = call.run(call.input, call.weight)
        if call.weight.ndim < 2:  # reported with the other products that have no quantized form
            self.origins.propagate(call.function, [call.input], [output])
            return output
        products = self.operators.pop_products(first)
        weights = self._index.find(call.weight)
        if weights is None or not is_layer(call, weights):
            self.origins.propagate(call.function, [call.input], [output])
            self._refuse(call.operation.kind, self._reason(call, weights), [call.weight], products)
        elif call.continues:
            self._extend(weights, output)
        else:
            self._add(call, weights, output)
        return output

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        first = len(self.operators.products)
        result = function(*args, **kwargs)
        operands = list(tensors((args, kwargs)))
        if function in PRODUCTS:
            self._refuse_product(PRODUCTS[function], operands, self.operators.pop_products(first))
        self.origins.propagate(function, operands, tensors(result))
        return result

    def result(self, model: nn.Module, outputs: Any) -> Trace:
        """Return the trace, after the network has returned `outputs`."""
        self._refusals.add_unseen(self.operators.products)
        weights = [site.weights for site in self._sites]
        self._refusals.add_rest(model, self._called, weights, self.operators.readers)
        layers = self._named_layers()
        numbers = {number for tensor in tensors(outputs) for number in self.origins.of(tensor) if number}
        heads = [layers[number - 1] for number in sorted(numbers)] or layers[-1:]
        return Trace(layers, tuple(self._sites), tuple(self._refusals), tuple(layer.name for layer in heads))

    def _reason(self, call: Call, weights: WeightSlice | None) -> str:
        """Return why a call is not a layer."""
        if weights is not None:
            return "three-dimensional convolutions have no cost model"
        if name := self._index.name(call.weight):
            return f"it reads {name} transposed or with gaps, not as it is stored"
        return "its weights are computed while the network runs"

    def _add(self, call: Call, weights: WeightSlice, output: Tensor) -> None:
        self._names.setdefault(weights, self._name(weights))
        self._calls[weights] += 1
        number = len(self._layers) + 1
        self._layers.append(
            Layer(
                name=f"{number}",
                kind=layer_kind(call),
                input_tensors=tuple(sorted(self.origins.of(call.input))),
                output_tensor=number,
                **layer_shape(call, output),
            )
        )
        self._sites.append(Site(weights, self._calls[weights]))
        self._numbers[weights] = number
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
        parameter = getattr(self._modules[path], leaf)
        for name, module in reversed(self.stack):
            owned = [key for key, value in module.named_parameters(recurse=False) if value is parameter]
            if owned:
                path, leaf = name, owned[0]
                self._called.add(name)
                break
        return LayerName.of(path, leaf, part_of(parameter.shape, weights))

    def _refuse_product(self, what: str, operands: Sequence[Tensor], products: Sequence[Product]) -> None:
        weights = [name for tensor in operands if tensor.ndim > 1 and (name := self._index.name(tensor))]
        weights += [name for product in products for name in product.parameters]
        if weights:
            reason = f"multiplies with {weights[0]} in a way that has no quantized form"
        else:
            reason = "multiplies two activations, which stay in float"
        self._refuse(what, reason, operands, products)

    def _refuse(self, what: str, reason: str, operands: Iterable[Tensor], products: Sequence[Product]) -> None:
        name = self.stack[-1][0] if self.stack else ""
        parameters = [found for tensor in operands if (found := self._index.name(tensor))]
        reason = reason if name else f"{what}: {reason}"
        self._refusals.add(name or what, reason, products=products, parameters=parameters)
        self._called.add(name)


@contextmanager
def _watched(model: nn.Module, tracer: _Tracer) -> Iterator[None]:
    """Inform a tracer of the running modules, and of their outputs, inside the context."""
    names = {module: name for name, module in model.named_modules()}

    def enter(module: nn.Module, _: Any) -> None:
        tracer.stack.append((names.get(module, ""), module))

    def leave(_module: nn.Module, args: Any, output: Any) -> None:
        tracer.stack.pop()
        with torch._C.DisableTorchFunction():
            tracer.origins.propagate_through_module(tensors(args), tensors(output))

    handles = (register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
