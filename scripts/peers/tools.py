"""Adapters for other tools that choose bits: Sony's model-compression-toolkit (mct) and NVIDIA's modelopt.

Each tool has two functions: one chooses bits for an average and quantizes with them, the other quantizes with given
bits. The tools are no dependencies of haq: `pip install model-compression-toolkit nvidia-modelopt requests
huggingface_hub` into an environment of their own. Layers are not merged (`linear_collapsing`, `residual_collapsing`),
so that bits are those of the network's own layers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from haq.tasks.base import Batch

ACTIVATION_BITS = 8
WIDTHS = (2, 3, 4, 5, 6, 7, 8)
Bits = Mapping[str, int]
"""Bits of weights, by the name of the module that holds them."""


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """A network that a tool may change, and labelled calibration images."""

    model: nn.Module
    batches: Sequence[Batch]


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """A tool's quantized network, and the bits it chose."""

    model: nn.Module
    bits: Bits


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool: `choose` takes an average over all weights and the widths, `quantize` the bits."""

    choose: Callable[[Inputs, float, Sequence[int]], Chosen]
    quantize: Callable[[Inputs, Bits], nn.Module]


def choose_with_mct(inputs: Inputs, average: float, choices: Sequence[int]) -> Chosen:
    """Choose bits by mct's integer program over sensitivities, on its target `imx500` with other widths."""
    import model_compression_toolkit as toolkit

    owners = {name: module for name, module in inputs.model.named_modules() if _holds_weights(module)}
    weights = sum(module.weight.numel() for module in owners.values())
    memory = toolkit.core.ResourceUtilization(weights_memory=weights * average / 8)
    model = _mct(inputs, choices, target_resource_utilization=memory)
    found = {
        name.removesuffix("_bn"): quantizer.num_bits
        for name, module in model.named_modules()
        for quantizer in getattr(module, "weights_quantizers", {}).values()
    }
    return Chosen(model, {name: found[node_name(name)] for name in owners})


def quantize_with_mct(inputs: Inputs, bits: Bits) -> nn.Module:
    """Quantize by mct with given bits, with its default bias correction and batch norm folding."""
    import model_compression_toolkit as toolkit
    from model_compression_toolkit.core.common.network_editors import NodeNameFilter

    fixed = toolkit.core.BitWidthConfig()
    followed = followed_by_norm(inputs.model)
    for name, width in bits.items():
        node = NodeNameFilter(node_name(name) + ("_bn" if name in followed else ""))
        fixed.set_manual_weights_bit_width(node, width, "weight")
    return _mct(inputs, WIDTHS, bit_width_config=fixed)


def _mct(inputs: Inputs, choices: Sequence[int], *, bit_width_config: Any = None, **settings: Any) -> nn.Module:
    import model_compression_toolkit as toolkit
    from model_compression_toolkit.target_platform_capabilities.constants import KERNEL_ATTR, WEIGHTS_N_BITS
    from model_compression_toolkit.target_platform_capabilities.tpc_models.imx500_tpc.v1_0 import tpc

    base, _, default = tpc.get_op_quantization_configs()
    widths = [
        base.clone_and_edit(attr_to_edit={KERNEL_ATTR: {WEIGHTS_N_BITS: bits}})
        for bits in sorted(choices, reverse=True)
    ]
    target = tpc.generate_tpc(default_config=default, base_config=base, mixed_precision_cfg_list=widths, name="widths")
    core = toolkit.core.CoreConfig(
        quantization_config=toolkit.core.QuantizationConfig(linear_collapsing=False, residual_collapsing=False),
        mixed_precision_config=toolkit.core.MixedPrecisionQuantizationConfig(),
        bit_width_config=bit_width_config or toolkit.core.BitWidthConfig(),
    )

    def batches() -> Iterator[list[Tensor]]:
        for images, _ in inputs.batches:
            yield [images]

    with torch.enable_grad():
        model: nn.Module
        model, _ = toolkit.ptq.pytorch_post_training_quantization(
            inputs.model, batches, core_config=core, target_platform_capabilities=target, **settings
        )
    return model


def node_name(name: str) -> str:
    """Return torch.fx's name of a module; mct adds `_bn` where it folds a batch norm into it.

    >>> node_name("layer1.0.conv1"), node_name("0.0")
    ('layer1_0_conv1', '_0_0')
    """
    node = name.replace(".", "_")
    return f"_{node}" if node[0].isdigit() else node


def followed_by_norm(model: nn.Module) -> set[str]:
    """Return the modules with weights that a batch norm follows, by order of definition."""
    named = [(name, module) for name, module in model.named_modules() if not list(module.children())]
    return {
        name
        for (name, module), (_, following) in pairwise(named)
        if _holds_weights(module) and isinstance(following, nn.BatchNorm2d)
    }


def _holds_weights(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d | nn.Linear)


def choose_with_modelopt(inputs: Inputs, average: float, choices: Sequence[int]) -> Chosen:
    """Choose bits by modelopt's linear program over gradient scores; ranges are maxima, weights per channel."""
    import modelopt.torch.quantization as toolkit

    formats = [_modelopt({"*weight_quantizer": bits}) for bits in choices]
    with torch.enable_grad():
        model, _ = toolkit.auto_quantize(
            inputs.model,
            constraints={"effective_bits": average},
            quantization_formats=formats,
            data_loader=inputs.batches,
            forward_step=lambda model, batch: model(batch[0]),
            loss_func=lambda outputs, batch: F.cross_entropy(outputs, batch[1]),
            num_calib_steps=len(inputs.batches),
            num_score_steps=len(inputs.batches),
            disabled_layers=[],
        )
    found = {
        name: module.weight_quantizer.num_bits if module.weight_quantizer.is_enabled else 32
        for name, module in model.named_modules()
        if hasattr(module, "weight_quantizer")
    }
    return Chosen(model, found)


def quantize_with_modelopt(inputs: Inputs, bits: Bits) -> nn.Module:
    """Quantize by modelopt with given bits."""
    import modelopt.torch.quantization as toolkit

    def run(model: nn.Module) -> None:
        with torch.no_grad():
            for images, _ in inputs.batches:
                model(images)

    widths = {f"{name}.weight_quantizer": width for name, width in bits.items()}
    model: nn.Module = toolkit.quantize(inputs.model, _modelopt(widths), run)
    return model


def _modelopt(widths: Bits) -> dict[str, Any]:
    """Return modelopt's configuration from the weight bits by quantizer name."""
    weights = [
        {"quantizer_name": name, "cfg": {"num_bits": width, "axis": 0}, "enable": True}
        for name, width in widths.items()
    ]
    inputs = {"quantizer_name": "*input_quantizer", "cfg": {"num_bits": ACTIVATION_BITS, "axis": None}, "enable": True}
    return {"quant_cfg": [{"quantizer_name": "*", "enable": False}, *weights, inputs], "algorithm": "max"}


PEERS: Mapping[str, Peer] = {
    "mct": Peer(choose_with_mct, quantize_with_mct),
    "modelopt": Peer(choose_with_modelopt, quantize_with_modelopt),
}
