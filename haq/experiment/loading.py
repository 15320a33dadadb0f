"""Loading of what a configuration names: layers and their costs, an example input, options of the data."""

from dataclasses import fields, replace
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from haq.config import SearchConfig
from haq.costs.deployment import deployed_table, deployment_target
from haq.costs.pricing import PricedLayers
from haq.errors import UserError
from haq.execution.networks import require_runs
from haq.execution.structures import Structure
from haq.network.layers import Trace, trace
from haq.network.tracing.unwrapping import unwrapped
from haq.network.zoo import (
    build_model,
    default_example,
    default_input_shape,
    input_kind,
    is_trained_on_use,
    load_model,
)
from haq.quantization.kmeans import codebook_bytes
from haq.tasks import TaskOptions, load_task
from haq.tasks.loading import input_kind_of, num_classes_of
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import WIDTHS, CostTable

MAX_INPUT = 2**28
"""Maximum number of values of one input, 1 GiB of float32."""


def load_traced(config: SearchConfig, *, model: nn.Module | None = None, example: Structure | None = None) -> Trace:
    """Trace the layers of a network.

    Args:
        config: Settings with the names of model and data.
        model: Network that replaces the one in the settings.
        example: Input [1, ...] to trace with; that of `example_input` if None.

    Returns:
        The layers.

    Raises:
        UserError: The network cannot be loaded or traced, or the shape of its input is not given.
    """
    network = _structure(config) if model is None else unwrapped(model)
    return trace(network, example_input(config, model=network) if example is None else example)


def load_priced(config: SearchConfig, *, model: nn.Module | None = None, layers: Trace | None = None) -> PricedLayers:
    """Price the layers of a network on a device.

    Args:
        config: Settings with the names of device, model and data.
        model: Network that replaces the one in the settings.
        layers: Traced layers; if given, no network is loaded.

    Returns:
        The layers with their costs.

    Raises:
        UserError: The network cannot be loaded or traced.
        UnsupportedError: The device or the deployment target cannot run a layer.
        DescriptionError: The device or the target does not exist, or its file is invalid.
    """
    accelerator, target = load_accelerator(config.hardware), deployment_target(config)
    if layers is None:
        layers = load_traced(config, model=model)
    table = deployed_table(accelerator.table(layers.layers, batch=config.batch), target)
    priced = _with_codebooks(table) if config.quantizer == "kmeans" else table
    return PricedLayers(config.model, layers.layers, layers.heads, layers.refused, priced)


def example_input(config: SearchConfig, *, model: nn.Module | None = None) -> Structure:
    """Return an input to trace a network with.

    It is the first calibration input if the settings name data, else zeros in the shape given by the settings or usual
    for the model.

    Args:
        config: Settings with the names of model and data.
        model: Network; may define the transform of its images.

    Returns:
        Input [1, ...].

    Raises:
        UserError: The data cannot be loaded, or the shape is given by neither settings, data nor model.
    """
    if "data" in config.model_fields_set:
        example = load_task(config.data, model=model, options=task_options(config)).example()
        require_shape(config, example)
        return example
    if config.input is not None:
        if prod(config.input) > MAX_INPUT:
            raise UserError(f"--input {'x'.join(map(str, config.input))} has more than {MAX_INPUT} values; give less")
        return torch.zeros(1, *config.input)
    usual = default_example(config.model)
    if usual is not None:
        return usual
    raise UserError(
        f"the shape of an input of {config.model} is not known; add --input, such as --input 3x224x224, or its --data"
    )


def _structure(config: SearchConfig) -> nn.Module:
    """Build the network to trace its layers, with weights only if they were given, so that a wrong file is reported."""
    if "data" in config.model_fields_set:
        require_same_inputs(config)
    if config.weights is not None:
        return load_model(config.model, weights=config.weights)
    num_classes = num_classes_of(config.data) if "data" in config.model_fields_set else None
    return build_model(config.model, num_classes=num_classes)


def load_configured(config: SearchConfig) -> nn.Module:
    """Load the network that a configuration names; without weights, with as many outputs as its data need.

    Args:
        config: Settings with the names of model, weights and data.

    Returns:
        The network, in evaluation mode.

    Raises:
        UserError: The name is unknown, the weights do not fit, or the data cannot be read.
    """
    require_same_inputs(config)
    num_classes = num_classes_of(config.data) if config.weights is None else None
    return load_model(config.model, weights=config.weights, num_classes=num_classes)


def require_fitting_data(config: SearchConfig) -> None:
    """Check that a network that is trained on first use runs on the data, before it is trained.

    Args:
        config: Settings with the names of model and data.

    Raises:
        UserError: The network does not run on the data, or its outputs are not those of the task.
    """
    require_same_inputs(config)
    if config.weights is not None or not is_trained_on_use(config.model):
        return
    untrained = build_model(config.model, num_classes=num_classes_of(config.data))
    task = load_task(config.data, model=untrained, options=task_options(config))
    example = task.example()
    require_shape(config, example)
    require_form(config, example)
    require_runs(untrained, example)
    task.validate(untrained)


def require_same_inputs(config: SearchConfig) -> None:
    """Refuse a network for images with text and the reverse, before either is loaded.

    Args:
        config: Settings with the names of model and data.

    Raises:
        UserError: The network reads other inputs than the data have, or the name of the model is unknown.
    """
    reads, given = input_kind(config.model), input_kind_of(config.data)
    if reads is None or given is None or reads == given:
        return
    if reads == "tokens":
        raise UserError(f"{config.model} is a language model, and {config.data} has images; give text, --data text:DIR")
    raise UserError(
        f"{config.model} is a network for images, and {config.data} is text; give a language model, such as lstm_300"
    )


def task_options(config: SearchConfig) -> TaskOptions:
    """Select the options of the data from a configuration.

    Args:
        config: Settings.

    Returns:
        The options.
    """
    names = [field.name for field in fields(TaskOptions) if field.name in SearchConfig.model_fields]
    return TaskOptions(**{name: getattr(config, name) for name in names})


def require_shape(config: SearchConfig, example: Structure) -> None:
    """Check that the shape of an input in the settings is that of the data.

    Args:
        config: Settings; without `input`, nothing is required.
        example: Input [1, ...] of the data.

    Raises:
        UserError: The shapes differ.
    """
    if config.input is None:
        return
    if not isinstance(example, Tensor):
        raise UserError(f"the items of {config.data} are more than one tensor; leave --input out")
    shape = tuple(example.shape[1:])
    if config.input != shape:
        given, theirs = ("x".join(map(str, each)) for each in (config.input, shape))
        raise UserError(f"--input {given} differs from the items of {config.data}, which are {theirs}; leave it out")


def require_form(config: SearchConfig, example: Structure) -> None:
    """Check that items have as many dimensions and channels as the network that the settings name takes.

    Args:
        config: Settings with the names of model and data.
        example: Input [1, ...] of the data.

    Raises:
        UserError: They do not.
    """
    usual = default_input_shape(config.model)
    if usual is None or not isinstance(example, Tensor):
        return
    shape = tuple(example.shape[1:])
    if len(shape) != len(usual) or (len(usual) == 3 and shape[0] != usual[0]):
        taken, given = ("x".join(map(str, each)) for each in (usual, shape))
        raise UserError(
            f"{config.model} takes items of another form, such as {taken}, than those of {config.data}, which are "
            f"{given}; give --model and --data that fit"
        )


def _with_codebooks(table: CostTable) -> CostTable:
    """Return a table whose bytes include the codebook of every layer that is not tied to another."""
    owns = np.array([layer.weight_count > 0 for layer in table.layers])
    books = np.array([0 if width is None else codebook_bytes(width) for width in WIDTHS])
    return replace(table, weight_bytes=table.weight_bytes + owns[:, None, None] * books[None, :, None])
