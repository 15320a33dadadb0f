"""Load what a configuration names: layers and their prices, an example input, options of the data."""

from dataclasses import fields, replace
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from haq.config import SearchConfig
from haq.costs.pricing import PricedLayers
from haq.errors import UserError
from haq.execution.structures import Structure
from haq.network.layers import Trace, trace
from haq.network.tracing.unwrapping import unwrapped
from haq.network.zoo import build_model, default_input_shape, load_model
from haq.quantization.kmeans import codebook_bytes
from haq.tasks import TaskOptions, load_task
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import WIDTHS, CostTable

MAX_INPUT = 2**28
"""Values of one input; 1 GiB of them."""


def load_traced(config: SearchConfig, *, model: nn.Module | None = None) -> Trace:
    """The layers of `model`, or of the network that the configuration names. Raises UserError."""
    network = _structure(config) if model is None else unwrapped(model)
    return trace(network, example_input(config, model=network))


def load_priced(config: SearchConfig, *, model: nn.Module | None = None, layers: Trace | None = None) -> PricedLayers:
    """The layers of a network, priced on the configuration's device.

    They are `layers`, or those of `model`, or those of the network that the configuration names.
    Raises UserError, UnsupportedError, or DeviceError for a device that does not exist.
    """
    accelerator = load_accelerator(config.hardware)
    if layers is None:
        layers = load_traced(config, model=model)
    table = accelerator.table(layers.layers, batch=config.batch)
    priced = _with_codebooks(table) if config.quantizer == "kmeans" else table
    return PricedLayers(config.model, layers.layers, layers.heads, layers.refused, priced)


def example_input(config: SearchConfig, *, model: nn.Module | None = None) -> Structure:
    """One input, [1, ...]: the first calibration input of the data that were given, else zeros of a known shape.

    The shape is the one that was given, or usual for the model; `model` may bring the transform of its images. Raises
    UserError where none of the three is known.
    """
    if "data" in config.model_fields_set:
        example = load_task(config.data, model=model, options=task_options(config)).example()
        require_shape(config, example)
        return example
    if config.input is not None:
        if prod(config.input) > MAX_INPUT:
            raise UserError(f"--input {'x'.join(map(str, config.input))} has more than {MAX_INPUT} values; give less")
        return torch.zeros(1, *config.input)
    usual = default_input_shape(config.model)
    if usual is not None:
        return torch.zeros(1, *usual)
    raise UserError(
        f"the shape of an input of {config.model} is not known; add --input, such as --input 3x224x224, or its --data"
    )


def _structure(config: SearchConfig) -> nn.Module:
    """The network for its layers' sake: with weights only where they were given, so that misfits show."""
    if config.weights is not None:
        return load_model(config.model, weights=config.weights)
    return build_model(config.model)


def task_options(config: SearchConfig) -> TaskOptions:
    """How a configuration wants its data."""
    names = [field.name for field in fields(TaskOptions) if field.name in SearchConfig.model_fields]
    return TaskOptions(**{name: getattr(config, name) for name in names})


def require_shape(config: SearchConfig, example: Structure) -> None:
    """The data decide on the shape of an input; one that was given has to agree."""
    if config.input is None:
        return
    if not isinstance(example, Tensor):
        raise UserError(f"the items of {config.data} are more than one tensor; leave --input out")
    shape = tuple(example.shape[1:])
    if config.input != shape:
        given, theirs = ("x".join(map(str, each)) for each in (config.input, shape))
        raise UserError(f"--input {given} differs from the items of {config.data}, which are {theirs}; leave it out")


def _with_codebooks(table: CostTable) -> CostTable:
    """The same costs, with the codebook of every layer that has weights of its own counted in their bytes."""
    owns = np.array([layer.weight_count > 0 for layer in table.layers])
    books = np.array([0 if width is None else codebook_bytes(width) for width in WIDTHS])
    return replace(table, weight_bytes=table.weight_bytes + owns[:, None, None] * books[None, :, None])
