"""Search, fine-tuning and reconstruction of networks that are objects or names."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from torch import nn

from haq.config import search_config
from haq.errors import warn_caller
from haq.execution.progress import SILENT, Watcher
from haq.experiment.artifact import load_artifact, load_temporary
from haq.experiment.inputs import Inputs, names_of
from haq.experiment.learning_request import PolicyLike, learning_request
from haq.finetuning.finetune import FinetuneResult, finetune_configured
from haq.quantization.training.config import FinetuneConfig, finetune_config
from haq.reconstruction.config import ReconstructionConfig, reconstruction_config
from haq.reconstruction.reconstruct import QUANTIZER_SETTINGS, ReconstructionResult, reconstruct_configured
from haq.searching.search import SearchResult, search_configured
from haq.tasks import TaskLike, as_task

Result = TypeVar("Result", SearchResult, FinetuneResult, ReconstructionResult)


def search(
    model: nn.Module | str = "digits_cnn",
    task: TaskLike = "digits",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    time_limit_s: float | None = None,
    watcher: Watcher = SILENT,
    **settings: Any,
) -> SearchResult:
    """Search for the bits of every layer that lose the least accuracy within a budget (HAQ, Wang et al., CVPR 2019).

    Args:
        model: Network, which is not changed, or its name as on the command line.
        task: Data: a `haq.tasks.base.Task`, a name as on the command line, or a mapping from `calibration`, `search`,
            `report` and optionally `selection` and `train` to data sets of (input, label) or to loaders of batches.
        out: Folder of the run; None keeps no files.
        resume: Continue the run in `out` if it was interrupted, ended by its time limit, or has fewer episodes than
            `episodes`. A finished run is returned unchanged.
        time_limit_s: Time in seconds, preparation and earlier sessions included, after which the search ends with the
            best policy so far; None for no limit.
        watcher: Receives phases and episodes as they finish.
        settings: Fields of `haq.config.SearchConfig`, such as `hardware`, `objective`, `episodes` and `seed`. `budget`
            is a ratio of the 8-bit cost, a text such as "12ms", or a mapping from objectives to them, such as
            `{"latency": 0.6, "size": "250kB"}`. With `max_accuracy_drop`, in points of accuracy such as 0.5, the search
            minimizes the cost instead.

    Returns:
        The policy, the summary and the artifact of the run.

    Raises:
        UserError: A setting is wrong, or model or data cannot be loaded; at the end, if no policy met the budget.
        UnsupportedError: The device cannot run the network. It and `BudgetError` are raised before the first episode.
        BudgetError: No policy can meet the budget.
        DescriptionError: The device or the deployment target does not exist, or its file is invalid.

    Examples:
        >>> result = search("digits_cnn", "digits", hardware="bismo-edge", budget=0.6)  # doctest: +SKIP
        >>> result.policy.w_bits, result.summary.accuracy  # doctest: +SKIP
        >>> result.policy.save("policy.json")  # doctest: +SKIP
    """
    task = as_task(task)
    config = search_config(**names_of(model, task), **settings)
    inputs = Inputs.of(model, task)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run" if out is None else Path(out)
        result = search_configured(
            config, path, inputs=inputs, resume=resume and out is not None, time_limit_s=time_limit_s, watcher=watcher
        )
        result = _kept(result, path, inputs, out=out)
    warn_caller(result.summary.warnings)
    return result


def finetune(
    model: nn.Module | str | None = None,
    task: TaskLike | None = None,
    *,
    policy: PolicyLike = (4, 4),
    out: str | Path | None = None,
    resume: bool = False,
    watcher: Watcher = SILENT,
    **settings: Any,
) -> FinetuneResult:
    """Fine-tune a network with a policy: weights, and scales and shifts of all quantizers.

    Args:
        model: Network, which is not changed, or its name. If None, the network of the run that contains the policy,
            else the digits network.
        task: Data, as in `haq.search`. If None, the data of the run that contains the policy, else the digits. They
            need a `train` split.
        policy: A policy, its file, the folder of its run, or (w_bits, a_bits) for every layer but the first and the
            last; None in place of bits leaves layers in float.
        out: Folder of the run; None keeps no files.
        resume: Continue the run in `out` if it was interrupted.
        watcher: Receives phases, steps and epochs.
        settings: Fields of `haq.quantization.training.config.FinetuneConfig`, such as `epochs` and `lr`, and those of
            `haq.config.SearchConfig` about network, data, quantizers, device and seed.

    Returns:
        The trained network, the policy, the summary and the artifact of the run.

    Raises:
        UserError: A setting is wrong, model or data cannot be loaded or do not fit the policy, or the loss became NaN.
        UnsupportedError: The device cannot run the network.
        DescriptionError: The device or the deployment target does not exist, or its file is invalid.

    Examples:
        >>> result = finetune(policy=(4, 4), epochs=2, hardware="bismo-edge")  # doctest: +SKIP
        >>> result.summary.accuracy  # doctest: +SKIP
    """
    task = None if task is None else as_task(task)
    learning = {name: settings.pop(name) for name in list(settings) if name in FinetuneConfig.model_fields}
    config = search_config(**names_of(model, task), **settings)
    request = learning_request(policy, config, finetune_config(**learning))
    inputs = Inputs.of(model, task)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run" if out is None else Path(out)
        result = finetune_configured(request, path, inputs=inputs, resume=resume and out is not None, watcher=watcher)
        if result.is_first:  # the other processes of torchrun have no folder
            result = _kept(result, path, inputs, out=out)
    warn_caller(result.summary.warnings)
    return result if out is not None else replace(result, path=None)


def reconstruct(
    model: nn.Module | str | None = None,
    task: TaskLike | None = None,
    *,
    policy: PolicyLike = (4, 8),
    out: str | Path | None = None,
    resume: bool = False,
    watcher: Watcher = SILENT,
    **settings: Any,
) -> ReconstructionResult:
    """Learn rounding, scales and biases of a policy from the float network's outputs on the calibration images.

    Args:
        model: Network, which is not changed, or its name. If None, the network of the run that contains the policy,
            else the digits network.
        task: Data, as in `haq.search`; labels are not used for learning. If None, the data of the run that contains the
            policy, else the digits.
        policy: A policy, its file, the folder of its run, or (w_bits, a_bits) for every layer but the first and the
            last.
        out: Folder of the run; None keeps no files.
        resume: Continue the run in `out` if it was interrupted.
        watcher: Receives phases and steps.
        settings: Fields of `haq.reconstruction.config.ReconstructionConfig`, such as `steps`, and those of
            `haq.config.SearchConfig` about network, data, quantizers, device and seed.

    Returns:
        The policy, the summary and the artifact of the run.

    Raises:
        UserError: A setting is wrong, model or data cannot be loaded or do not fit the policy, or the loss became NaN.
        UnsupportedError: The device cannot run the network.
        DescriptionError: The device or the deployment target does not exist, or its file is invalid.

    Examples:
        >>> result = reconstruct(policy=(4, 8), steps=20)  # doctest: +SKIP
        >>> result.summary.accuracy  # doctest: +SKIP
    """
    task = None if task is None else as_task(task)
    learning = {name: settings.pop(name) for name in list(settings) if name in ReconstructionConfig.model_fields}
    config = search_config(**names_of(model, task), **settings)
    request = learning_request(policy, config, reconstruction_config(**learning), inherited=QUANTIZER_SETTINGS)
    inputs = Inputs.of(model, task)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run" if out is None else Path(out)
        result = reconstruct_configured(
            request, path, inputs=inputs, resume=resume and out is not None, watcher=watcher
        )
        return _kept(result, path, inputs, out=out)


def _kept(result: Result, path: Path, inputs: Inputs, *, out: str | Path | None) -> Result:
    """Return a result with its artifact, after drawing the figures of a folder that is kept."""
    objects = Inputs(inputs.model, inputs.task)
    if out is None:
        return replace(result, artifact=load_temporary(path, objects), path=None)
    from haq.reporting.plots import draw_missing  # matplotlib takes longer to import than all the rest

    draw_missing(path)
    return replace(result, artifact=load_artifact(path, inputs=objects))
