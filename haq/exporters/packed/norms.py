"""Batch norms and corrections of a packed file, folded to few numbers for each channel.

A batch norm in evaluation mode is a factor and an offset for each channel. Where it alone reads a layer, the factor is
part of the scales of the layer's weights, and one number is left. Corrections of statistics and scales are included,
and those of biases where the layer has a bias of its own. Results differ from separate batch norms by float rounding
alone.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from haq.evaluation.engines.onnxruntime.errors import NotExportableError
from haq.execution.networks import run_network
from haq.exporters.deployable import Deployable
from haq.network.layer_calls import LayerCalls, LayerIndex, NormCall
from haq.network.tracing.weighted_calls import Call
from haq.quantization.corrections import Arguments, Corrections
from haq.quantization.moments import Moments

NORM_PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
"""Tensors of a batch norm module; of a folded one only `bias` and, where it follows no layer, `weight` are stored."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Folded:
    """Tensors of a network after folding.

    Attributes:
        factors: Factors of the scales of weights by position of the layer, [channels].
        changed: New values by name in the state dict; None for tensors that are not stored.
        norms: Modules of the folded batch norms.
        corrections: Corrections that could not be folded.
    """

    factors: dict[int, Floats] = field(default_factory=dict)
    changed: dict[str, Tensor | None] = field(default_factory=dict)
    norms: list[str] = field(default_factory=list)
    corrections: Corrections = field(default_factory=Corrections)


def fold(network: Deployable) -> Folded:
    """Fold the batch norms and corrections of a network.

    Args:
        network: Network with its policy.

    Returns:
        The changed tensors. Batch norms that are called more than once, or are no modules, stay as they are.
    """
    calls, found, before = _Calls.of(network), Folded(), _layers_before_norms(network)
    statistics, biases = dict(network.corrections.statistics), dict(network.corrections.biases)
    for path, arguments in calls.single_norms(network.model).items():
        factor, offset = _affine(arguments, statistics.pop((path, 1), None))
        prefix = path.removesuffix("running_mean")
        found.norms.append(prefix.removesuffix("."))
        found.changed.update({f"{prefix}{part}": None for part in NORM_PARTS})
        found.changed[f"{prefix}bias"] = _float32(offset)
        layer = before.get((path, 1))
        if layer is None or layer in biases or not _fold_into_layer(network, layer, factor, calls, found):
            found.changed[f"{prefix}weight"] = _float32(factor)
    scales = {
        layer: scale
        for layer, scale in network.corrections.scales.items()
        if not _fold_into_layer(network, layer, scale.double().numpy(force=True), calls, found)
    }
    for layer in sorted(biases.keys() - scales.keys()):
        name = calls.bias_of(layer, network)
        if name is not None:
            bias = found.changed.get(name)
            bias = network.model.get_parameter(name).detach() if bias is None else bias
            found.changed[name] = bias + biases.pop(layer).to(bias)
    return Folded(found.factors, found.changed, found.norms, Corrections(statistics, biases, scales))


def _affine(arguments: Arguments, moments: Moments | None) -> tuple[Floats, Floats]:
    """Return a batch norm as factors and offsets, with other statistics than its own where they are given."""
    mean, variance = moments or (arguments["running_mean"], arguments["running_var"])
    mean, variance, gamma, beta = (
        each.detach().double().numpy() for each in (mean, variance, arguments["weight"], arguments["bias"])
    )
    factor = gamma / np.sqrt(variance + arguments["eps"])
    return factor, beta - mean * factor


def _fold_into_layer(network: Deployable, layer: int, factor: Floats, calls: "_Calls", found: Folded) -> bool:
    """Make a factor part of a layer's scales and bias; return whether the layer allows it."""
    bias, name = calls.biases.get(layer), calls.bias_of(layer, network)
    is_shared = sum(site.weights == network.trace.sites[layer].weights for site in network.trace.sites) > 1
    if network.policy.w_bits[layer] is None or is_shared or (name is None and bias is not None and bias.any()):
        return False
    found.factors[layer] = factor
    if name is not None and bias is not None:
        found.changed[name] = _float32(bias.detach().double().numpy(force=True) * factor)
    return True


def _layers_before_norms(network: Deployable) -> Mapping[NormCall, int]:
    """Return the layer that a batch norm alone reads, by batch norm; none if the network has no graph."""
    try:
        products = network.template.products
    except NotExportableError:
        return {}
    return {product.norm.name: layer for layer, product in enumerate(products) if product.norm}


@dataclass(frozen=True, slots=True, eq=False)
class _Calls:
    """Batch norms and biases of one forward pass.

    Attributes:
        norms: Arguments by call of a batch norm.
        biases: Bias that a layer adds, by its position.
    """

    norms: dict[NormCall, Arguments]
    biases: dict[int, Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, network: Deployable) -> "_Calls":
        """Run a network on its example."""
        seen = cls({}, {})

        def compute(layer: int, call: Call) -> Tensor:
            bias = call.arguments.get("bias")
            if bias is not None:
                seen.biases[layer] = bias
            return call.run(call.input, call.factor)

        def normalize(norm: NormCall, arguments: Arguments) -> Tensor:
            seen.norms[norm] = arguments
            return Corrections().normalize(norm, arguments)

        index = LayerIndex(network.model, network.trace.sites)
        run_network(network.model, network.example, LayerCalls(index, compute, normalize))
        return seen

    def single_norms(self, model: nn.Module) -> dict[str, Arguments]:
        """Return the arguments of batch norms that are modules and called once, by the path of the running mean."""
        calls, modules = Counter(path for path, _ in self.norms), dict(model.named_modules())
        found = {path: arguments for (path, _), arguments in self.norms.items() if calls[path] == 1}
        return {path: each for path, each in found.items() if is_foldable(model, modules.get(_module_of(path)))}

    def bias_of(self, layer: int, network: Deployable) -> str | None:
        """Return the name of the bias that a layer alone adds, as it is; None if there is none."""
        bias = self.biases.get(layer)
        if bias is None or sum(each is bias for each in self.biases.values()) > 1:
            return None
        names = [name for name, each in network.model.named_parameters(remove_duplicate=False) if each is bias]
        return names[0] if len(names) == 1 else None


def _module_of(running_mean: str) -> str | None:
    path, _, leaf = running_mean.rpartition(".")
    return path if leaf == "running_mean" else None


def is_foldable(model: nn.Module, module: nn.Module | None) -> bool:
    """Return whether a module of a network is a batch norm whose tensors no other module has.

    Args:
        model: Network.
        module: Module of the network; None if there is none.

    Returns:
        True if it is.
    """
    if not isinstance(module, nn.modules.batchnorm._BatchNorm) or module.running_mean is None or not module.affine:
        return False
    names = [name for name, other in model.named_modules(remove_duplicate=False) if other is module]
    mine = {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
    everywhere = (
        *(each for _, each in model.named_parameters(remove_duplicate=False)),
        *(each for _, each in model.named_buffers(remove_duplicate=False)),
    )
    return len(names) == 1 and sum(id(each) in mine for each in everywhere) == len(mine)


def _float32(values: Floats) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))
