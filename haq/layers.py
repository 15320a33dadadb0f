"""Find the quantizable layers of a network by running it once."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from haq.errors import UserError
from haq.tracing.layer_shapes import layer_kind, layer_shape
from haq.tracing.weighted_calls import PRODUCTS, Call, WeightedCalls, WeightIndex, WeightSlice
from hardware_sim.layer import Layer


@dataclass(frozen=True, slots=True)
class Refused:
    """A part of the network that stays in float, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where a layer is found again in a later forward pass: which weights, at which of their calls."""

    weights: WeightSlice
    call: int


@dataclass(frozen=True, slots=True)
class Trace:
    """What one run of a network showed: its layers in the order of execution, where they are, and what was refused."""

    layers: tuple[Layer, ...]
    sites: tuple[Site, ...]
    refused: tuple[Refused, ...]
    heads: tuple[str, ...]
    """The layers whose outputs are the network's own, by name."""


def trace_layers(model: nn.Module, example: Tensor) -> tuple[Layer, ...]:
    """The quantizable layers of a network, in the order of execution; see `trace`.

    >>> [layer.name for layer in trace_layers(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), torch.zeros(1, 3, 5, 5))]
    ['0']
    """
    return trace(model, example).layers


def trace(model: nn.Module, example: Tensor) -> Trace:
    """Run a network once, in evaluation mode and without gradients, and write down every layer that it called.

    `example` holds one item, [1, ...]. A layer bears the path of the module that owns its weights; each further call of
    the same weights is a layer of its own, `path:2`, tied to the first. A recurrent module is two layers for each of
    its own and each direction: `path.ih_l0` multiplies the inputs of all steps, a linear layer, and `path.hh_l0` the
    state, step by step, with `path.hr_l0` where it is projected. The network is left as it was.

    Raises UserError if the network does not run on the example or has no quantizable layer.
    """
    tracer = _Tracer(model, example)
    was_training = {module: module.training for module in model.modules()}
    try:
        model.eval()
        with torch.no_grad(), _module_stack(model) as tracer.stack, tracer:
            outputs = model(example)
    except _FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"the model does not run on an input of shape {tuple(example.shape)}: {reason}") from error
    finally:
        for module, training in was_training.items():
            module.training = training
    result = Trace(tuple(tracer.layers), tuple(tracer.sites), tuple(tracer.refusals(model)), tracer.heads(outputs))
    if not result.layers:
        why = "; ".join(f"{refused.name}: {refused.reason}" for refused in result.refused[:3])
        raise UserError(f"the model has no quantizable layer{f' ({why})' if why else ''}")
    return result


_FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError)
"""What a network raises on an input that it is not made for."""
_WEIGHTED_MODULES = (
    nn.modules.conv._ConvNd,
    nn.Linear,
    nn.Bilinear,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.MultiheadAttention,
)
_JOINING = (torch.cat, torch.concat, torch.concatenate, torch.stack)


class _Tracer(WeightedCalls):
    """Writes down the calls of one forward pass, and which activation tensor each layer reads."""

    def __init__(self, model: nn.Module, example: Tensor) -> None:
        super().__init__()
        self.layers: list[Layer] = []
        self.sites: list[Site] = []
        self.stack: list[tuple[str, nn.Module]] = []
        self._refused: dict[str, str] = {}
        self._seen: set[str] = set()
        self._calls: defaultdict[WeightSlice, list[str]] = defaultdict(list)
        self._numbers: dict[WeightSlice, int] = {}
        self._index = WeightIndex(model)
        self._modules = dict(model.named_modules(remove_duplicate=False))
        # Tensors are kept until the end, so that an id names one tensor only.
        self._tensors: dict[int, tuple[Tensor, frozenset[int]]] = {id(example): (example, frozenset({0}))}

    def weighted(self, call: Call) -> Tensor:
        output = call.run(call.input, call.weight)
        weights = self._index.find(call.weight)
        if weights is not None and call.operation.spatial_dims <= 2:
            if call.continues:
                self._extend(weights, output)
            else:
                self._add(call, weights, output)
            return output
        self._carry(call.function, [call.input], output)
        if weights is not None:
            self._refuse(call.operation.kind, "three-dimensional convolutions have no cost model")
        elif name := self._index.name(call.weight):
            self._refuse(call.operation.kind, f"it reads {name} turned or with gaps, not as it is stored")
        else:
            self._refuse(call.operation.kind, "its weights are computed while the network runs")
        return output

    def other(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        result = function(*args, **kwargs)
        operands = list(_tensors((*args, *kwargs.values())))
        if function in PRODUCTS:
            self._refuse_product(PRODUCTS[function], operands)
        self._carry(function, operands, result)
        return result

    def refusals(self, model: nn.Module) -> Iterator[Refused]:
        """What was refused on the way, then the modules with weights that were never called."""
        yield from (Refused(name, reason) for name, reason in self._refused.items())
        called = self._seen | {site.weights.parameter.rpartition(".")[0] for site in self.sites}
        for name, module in model.named_modules():
            if isinstance(module, _WEIGHTED_MODULES) and name not in called:
                yield Refused(name, "was not called when the network ran")

    def heads(self, outputs: Any) -> tuple[str, ...]:
        """The layers that wrote the network's outputs; the last layer where none is known."""
        numbers = {number for tensor in _nested_tensors(outputs) for number in self._origin(tensor) if number}
        wrote = [self.layers[number - 1] for number in sorted(numbers)]
        return tuple(layer.name for layer in wrote or self.layers[-1:])

    def _add(self, call: Call, weights: WeightSlice, output: Tensor) -> None:
        base = self._name(weights)
        names = self._calls[weights]
        names.append(base if not names else f"{names[0]}:{len(names) + 1}")
        number = len(self.layers) + 1
        self.layers.append(
            Layer(
                name=names[-1],
                kind=layer_kind(call),
                tied_to=names[0] if len(names) > 1 else None,
                input_tensors=tuple(sorted(self._origin(call.input))),
                output_tensor=number,
                **layer_shape(call, output),
            )
        )
        self.sites.append(Site(weights, len(names)))
        self._numbers[weights] = number
        self._tensors[id(output)] = (output, frozenset({number}))

    def _extend(self, weights: WeightSlice, output: Tensor) -> None:
        """One more step of the recurrent layer that these weights were last called by."""
        number = self._numbers[weights]
        steps, sequences = self.layers[number - 1].output_size
        size = (steps + 1, sequences)
        self.layers[number - 1] = replace(self.layers[number - 1], input_size=size, output_size=size)
        self._tensors[id(output)] = (output, frozenset({number}))

    def _carry(self, function: Callable[..., Any], operands: Iterable[Tensor], result: Any) -> None:
        """The result of anything but a layer keeps the numbers of what it read, the latest where it combined several.

        The others that were combined are held until then: by the layer that wrote the latest.
        """
        origins = {self._origin(tensor) for tensor in operands} - {frozenset()}
        joined = frozenset().union(*origins)
        if not joined:
            return
        if function not in _JOINING and len(origins) > 1:
            self._hold(joined - {max(joined)}, until=max(joined))
            joined = frozenset({max(joined)})
        for tensor in _tensors((result,)):
            self._tensors[id(tensor)] = (tensor, joined)

    def _hold(self, tensors: frozenset[int], *, until: int) -> None:
        """Note that memory keeps these tensors while the layer runs that writes the tensor `until`."""
        layer = self.layers[until - 1]
        self.layers[until - 1] = replace(layer, held_tensors=tuple(sorted({*layer.held_tensors, *tensors})))

    def _origin(self, tensor: Tensor) -> frozenset[int]:
        return self._tensors.get(id(tensor), (tensor, frozenset()))[1]

    def _name(self, weights: WeightSlice) -> str:
        """The path of the owner: the innermost running module that has this parameter, under the name it has there."""
        path, _, leaf = weights.parameter.rpartition(".")
        for name, module in reversed(self.stack):
            owned = [key for key, value in module.named_parameters(recurse=False) if value is self._parameter(weights)]
            if owned:
                path, leaf = name, owned[0]
                self._seen.add(name)
                break
        parts = [path] if leaf == "weight" else [path, leaf.removesuffix("_weight").removeprefix("weight_")]
        whole = tuple(self._parameter(weights).shape) == weights.shape
        rows = weights.offset // max(1, self._parameter(weights)[0].numel())
        return ".".join(part for part in parts if part) + ("" if whole else f"[{rows}:{rows + weights.shape[0]}]")

    def _parameter(self, weights: WeightSlice) -> Tensor:
        path, _, leaf = weights.parameter.rpartition(".")
        return getattr(self._modules[path], leaf)  # type: ignore[no-any-return]

    def _refuse_product(self, what: str, operands: Iterable[Tensor]) -> None:
        weights = [name for tensor in operands if tensor.ndim > 1 and (name := self._index.name(tensor))]
        if weights:
            self._refuse(what, f"multiplies with {weights[0]} in a way that has no quantized form")
        else:
            self._refuse(what, "multiplies two activations, which stay in float")

    def _refuse(self, what: str, reason: str) -> None:
        name = self.stack[-1][0] if self.stack else ""
        self._refused.setdefault(name or what, reason if name else f"{what}: {reason}")
        self._seen.add(name)


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors among arguments or results, one list or tuple deep."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from (item for item in value if isinstance(item, Tensor))


def _nested_tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _nested_tensors(item)


@contextmanager
def _module_stack(model: nn.Module) -> Iterator[list[tuple[str, nn.Module]]]:
    """The modules that are running, outermost first, while the context is open."""
    names = {module: name for name, module in model.named_modules()}
    stack: list[tuple[str, nn.Module]] = []

    def enter(module: nn.Module, _: Any) -> None:
        stack.append((names.get(module, ""), module))

    def leave(_module: nn.Module, _args: Any, _output: Any) -> None:
        stack.pop()

    handles = (register_module_forward_pre_hook(enter), register_module_forward_hook(leave, always_call=True))
    try:
        yield stack
    finally:
        for handle in handles:
            handle.remove()
