"""Preparation of search problems: load and trace a network, price it, calibrate its quantizers, choose its engine."""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import get_args

import numpy as np
import torch
from torch import nn

from envs.building import build_choices
from envs.choices import Choices
from haq.config import SearchConfig
from haq.costs.deployment import deployment_target, require_deployable
from haq.costs.pricing import allowed_bits, require_feasible, resolve_budgets
from haq.errors import UserError
from haq.evaluation.chunks import part_sizes
from haq.evaluation.engines.finetuned import FinetunedEngine
from haq.evaluation.engines.registry import ComparisonData, EngineInputs, choose_engine, comparison_policies
from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.fingerprint import weights_hash
from haq.execution.networks import require_weights, switch_to_eval
from haq.execution.progress import Progress, no_progress
from haq.execution.structures import Structure, to_device
from haq.experiment.loading import (
    load_configured,
    load_priced,
    require_fitting_data,
    require_form,
    require_shape,
    task_options,
)
from haq.experiment.near_budget import policies_near_budget
from haq.experiment.problem import Network, PricedModel, Problem
from haq.experiment.quantized_policy import QuantizedPolicy
from haq.experiment.quantizer_settings import quantizer_options
from haq.experiment.stored_preparation import ensure_quantizers
from haq.network.layer_calls import require_float_layers
from haq.network.layers import trace
from haq.network.tracing.unwrapping import unwrapped
from haq.policy import PolicyBits
from haq.quantization.quantized_model import QuantizedModel
from haq.quantization.quantizers import Quantizers
from haq.tasks import load_task
from haq.tasks.base import SplitName, Task
from hardware_sim.catalog import load_accelerator

CORRECTION_IMAGES = 64
"""Number of images that corrections are computed from.

Few are enough: corrections are relative to the float network on the same images (results/corrections.md).
"""


def prepare(
    config: SearchConfig,
    *,
    model: nn.Module | None = None,
    task: Task | None = None,
    network: Network | None = None,
    require: Callable[[Task], None] = lambda _: None,
    progress: Progress = no_progress,
) -> Problem:
    """Load, trace and price a network, calibrate its quantizers, and resolve the budgets.

    Args:
        config: Settings of the search.
        model: Network that replaces the one in the settings.
        task: Data that replace those in the settings.
        network: Prepared network to use again, of settings that differ only in device, objective, budgets or search;
            else one is prepared, with its weights quantized to all allowed bits.
        require: Check of the data; raises UserError if they do not suit the search.
        progress: Receives the name of every phase.

    Returns:
        The problem.

    Raises:
        UserError: A setting is wrong, or model or data cannot be loaded.
        UnsupportedError: The device cannot run the network.
        BudgetError: No policy can meet the budget; raised before anything is calibrated.
    """
    if network is None:
        priced, data = _priced(config, model=model, task=task, progress=progress)
    else:
        priced, data = _repriced(config, network.priced), network.task
    budgets = resolve_budgets(config, priced)
    allowed = allowed_bits(config, priced)
    choice = build_choices(priced.table, [resolved.budget for resolved in budgets], allowed)
    require_feasible(choice, budgets, priced.baseline)
    require(data)
    if network is None:
        quantizers = _quantizers(config, priced, data)
        ensure_quantizers(priced, quantizers, quantize=partial(_quantize, quantizers, choice), progress=progress)
        near_budget = policies_near_budget(config, priced)
        ready = _network(config, priced, data, quantizers, comparison_policies=near_budget, progress=progress)
    else:
        ready = replace(network, priced=priced)
    return Problem(config, ready, budgets, allowed, choice)


def quantize_weights(problem: Problem) -> None:
    """Quantize the weights to all allowed bits that they were not quantized to yet.

    Args:
        problem: The problem.
    """
    _quantize(problem.network.quantizers, problem.choice)


def _quantize(quantizers: Quantizers, choice: Choices) -> None:
    for layer, decision in enumerate(choice.decision_of_layer):
        quantizers.quantize_weight(layer, np.flatnonzero(choice.allowed[decision].any(axis=1)) + 1)


def prepare_network(
    config: SearchConfig,
    *,
    model: nn.Module | None = None,
    task: Task | None = None,
    example: Structure | None = None,
    quantized: QuantizedPolicy | None = None,
    is_calibrated: bool = False,
    progress: Progress = no_progress,
) -> Network:
    """Load, trace and price a network and read its data; quantizers are calibrated when they are first used.

    Those of a policy without stored quantizers, and all of them if `is_calibrated`, are computed at once, or loaded
    from the cache.

    Args:
        config: Settings of network, data, quantizers and device.
        model: Network that replaces the one in the settings.
        task: Data that replace those in the settings.
        example: Input [1, ...] to trace the network with; None for the first calibration input.
        quantized: Policy of the network. Its stored quantizers are used instead of calibration; with trained weights,
            the engine runs this policy alone.
        is_calibrated: Whether the quantizers of all widths are computed.
        progress: Receives the name of every phase.

    Returns:
        The network.

    Raises:
        UserError: A setting is wrong, model or data cannot be loaded, or the policy does not fit the network.
        UnsupportedError: The device cannot run the network.
    """
    priced, data = _priced(config, model=model, task=task, example=example, progress=progress)
    if quantized is not None:
        quantized.policy.check_fits(priced.layers, model=priced.name)
        target = deployment_target(config)
        require_deployable(target, quantized.policy.layers, layers=priced.layers, heads=priced.heads)
    quantizers = _quantizers(config, priced, data)
    if quantized is not None and quantized.trained is not None:
        network = quantized.trained_network(priced.model, priced.trace)
        engine = FinetunedEngine(priced.model, network, quantized.bits)
        return Network(priced, data, quantizers, engine, "torch, where it was fine-tuned")
    if is_calibrated:
        ensure_quantizers(priced, quantizers, progress=progress)
    elif quantized is not None and quantized.tensors is None and config.episode_finetune_steps == 0:
        compared = () if config.engine == "torch" else comparison_policies(len(priced.layers))
        ensure_quantizers(priced, quantizers, policies=(quantized.bits, *compared), progress=progress)
    return _network(config, priced, data, quantizers, quantized=quantized, progress=progress)


def _priced(
    config: SearchConfig,
    *,
    model: nn.Module | None,
    task: Task | None,
    example: Structure | None = None,
    progress: Progress,
) -> tuple[PricedModel, Task]:
    """Return the network with its layers priced, on the device that it runs on, and its data."""
    quantizer_options(config)  # raises for settings that contradict each other, before anything is loaded
    require_device(config.device)
    load_accelerator(config.hardware)  # raises for a device that does not exist
    progress("load")
    if model is None and task is None:
        require_fitting_data(config)
    found = load_configured(config) if model is None else unwrapped(model)
    require_weights(found)
    loaded = _placed(found, "cpu")
    switch_to_eval(loaded)
    data = load_task(config.data, model=loaded, options=task_options(config)) if task is None else task
    require_shape(config, data.example())
    if model is None:
        require_form(config, data.example())
    progress("trace")
    traced_with = data.example() if example is None else example
    found_layers = trace(loaded, traced_with)
    priced = load_priced(config, layers=found_layers)
    require_float_layers(loaded, found_layers, traced_with)
    data.validate(loaded)
    progress("read data")
    data.prepare()
    placed = _placed(loaded, config.device)
    return PricedModel(
        priced.name,
        priced.layers,
        priced.heads,
        priced.refused,
        priced.table,
        model=placed,
        trace=found_layers,
        weights=weights_hash(placed),
    ), data


def _repriced(config: SearchConfig, priced: PricedModel) -> PricedModel:
    """Return the same network priced on the device of another configuration."""
    return replace(priced, table=load_priced(config, layers=priced.trace).table)


def _quantizers(config: SearchConfig, priced: PricedModel, data: Task) -> Quantizers:
    def calibration() -> Iterator[Structure]:
        return (
            to_device(inputs, config.device) for inputs, _ in data.batches("calibration", batch_size=config.eval_batch)
        )

    return Quantizers(priced.model, priced.trace, calibration, quantizer_options(config))


def _network(
    config: SearchConfig,
    priced: PricedModel,
    data: Task,
    quantizers: Quantizers,
    *,
    comparison_policies: Sequence[PolicyBits] = (),
    quantized: QuantizedPolicy | None = None,
    progress: Progress,
) -> Network:
    """Return the network with the engine that evaluates its policies.

    Engines are compared with `comparison_policies`, or with `quantized` alone if it has quantizers.
    """
    model = QuantizedModel(priced.model, priced.trace, quantizers)
    learns = config.episode_finetune_steps > 0
    reference = TorchEngine(model, None if learns else _correction_images(config, data), device=config.device)
    if not learns and quantized is not None and quantized.tensors is not None:
        restored = quantized.restore(quantizers, priced.trace, model=priced.model, device=config.device)
        reference.store(quantized.bits, restored)
        comparison_policies = (quantized.bits,)
    if not learns:
        progress("engine check")
    chosen = choose_engine(
        "episodes" if learns else config.engine,
        EngineInputs(
            quantized=model,
            trace=priced.trace,
            reference=reference,
            comparison=ComparisonData(_first_images(data), comparison_policies, _batch_sizes(data, config.eval_batch)),
            config=config,
            task=data,
        ),
    )
    return Network(priced, data, quantizers, chosen.engine, chosen.reason)


def _batch_sizes(data: Task, size: int) -> list[int]:
    """Return the sizes of the batches of all splits that are evaluated."""
    counts = [data.size(split) for split in get_args(SplitName) if split != "train"]
    return [part for count in counts for part in part_sizes(count, size)]


def require_device(device: str) -> None:
    """Check that this machine has a device.

    Args:
        device: Torch device.

    Raises:
        UserError: The device is missing.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: this installation of torch finds no CUDA device; use --device cpu")


def _placed(model: nn.Module, device: str) -> nn.Module:
    """Return the network on a device; a copy if it has to be moved, so that the caller's network is unchanged."""
    tensors = (*model.parameters(), *model.buffers())
    return model if all(tensor.device.type == device for tensor in tensors) else deepcopy(model).to(device)


def _correction_images(config: SearchConfig, task: Task) -> Structure | None:
    """Return the calibration images that corrections are computed from; None if there are no corrections."""
    return None if config.corrections == "none" else _first_images(task)


def _first_images(task: Task) -> Structure:
    return next(iter(task.batches("calibration", batch_size=CORRECTION_IMAGES)))[0]
