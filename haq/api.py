"""The Python API: functions that run a workflow and draw the figures of its run folder.

`search`, `finetune` and `reconstruct` run a workflow and return its result with an `Artifact`; `load` reads the
artifact of an earlier run, and `load_packed` a packed file; `evaluate` and `simulate` measure accuracy and cost of a
policy. All are available from `haq`.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from torch import nn

from haq.config import search_config
from haq.costs.deployment import deployment_target, require_deployable
from haq.costs.simulation import policy_bits, simulation
from haq.errors import UserError, warn_caller
from haq.execution.progress import SILENT, Watcher
from haq.experiment.artifact import Artifact, load_artifact, load_temporary
from haq.experiment.evaluate import evaluate_artifact
from haq.experiment.inputs import Inputs, names_of
from haq.experiment.learning_request import PolicyLike, learning_request
from haq.experiment.loading import load_priced
from haq.exporters.export import export_artifact
from haq.exporters.formats import ExportOptions, FormatName, ToolchainName
from haq.exporters.packed.model import load_packed
from haq.exporters.records import ExportRecord
from haq.finetuning.finetune import FinetuneResult, finetune_configured
from haq.policy import Policy, load_policy, uniform_bits
from haq.quantization.training.config import FinetuneConfig, finetune_config
from haq.reconstruction.config import ReconstructionConfig, reconstruction_config
from haq.reconstruction.reconstruct import QUANTIZER_SETTINGS, ReconstructionResult, reconstruct_configured
from haq.searching.search import SearchResult, search_configured
from haq.tasks import TaskLike, as_task

__all__ = ["evaluate", "export", "finetune", "load", "load_packed", "load_policy", "reconstruct", "search", "simulate"]
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
        DeviceError: The device does not exist, or its file is invalid.

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
        DeviceError: The device does not exist, or its file is invalid.

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
        watcher: Receives phases and steps.
        settings: Fields of `haq.reconstruction.config.ReconstructionConfig`, such as `steps`, and those of
            `haq.config.SearchConfig` about network, data, quantizers, device and seed.

    Returns:
        The policy, the summary and the artifact of the run.

    Raises:
        UserError: A setting is wrong, model or data cannot be loaded or do not fit the policy, or the loss became NaN.
        UnsupportedError: The device cannot run the network.
        DeviceError: The device does not exist, or its file is invalid.

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
        result = reconstruct_configured(request, path, inputs=inputs, watcher=watcher)
        return _kept(result, path, inputs, out=out)


def load(
    path: str | Path, *, model: nn.Module | str | None = None, task: TaskLike | None = None, **settings: Any
) -> Artifact:
    """Load the artifact in the folder of a search, a fine-tuning or a reconstruction.

    Network and data are loaded, and code named in the files is run, only when they are needed, as by `artifact.model`.

    Args:
        path: Folder of the run, or a policy file.
        model: Network that replaces that of the run, or its name. It is required where the run was made with an object,
            and is not changed.
        task: Data that replace those of the run, as in `haq.search`.
        settings: Fields of `haq.config.SearchConfig` that override those of the run, such as `device="cpu"`.

    Returns:
        The artifact: policy, quantizers, corrections, layers with their costs, summary, and the quantized network as
        `artifact.model`.

    Raises:
        UserError: The folder holds no policy, or a file is missing or damaged.

    Examples:
        >>> artifact = load("results/digits")  # doctest: +SKIP
        >>> logits = artifact.model(images)  # doctest: +SKIP
    """
    return _artifact(Path(path), model, task, settings)


def evaluate(
    artifact: Artifact | Policy | str | Path,
    *,
    model: nn.Module | str | None = None,
    task: TaskLike | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Evaluate a policy and the float network on the report split.

    Args:
        artifact: An artifact, the folder of a run, a policy file, or a policy.
        model: Network, which is not changed, or its name. If None, that of the run, else the one that the policy names.
        task: Data, as in `haq.search`. If None, those of the run, else the digits.
        settings: Fields of `haq.config.SearchConfig` that override those of the run. For an artifact, pass them to
            `haq.load` instead.

    Returns:
        The document that `haq evaluate --json` prints: `model`, `hardware`, `metric`, `images`, `accuracy`,
        `accuracy_fp32`, `cost`, `baseline_cost` and `warnings`. Accuracies are fractions in [0, 1].

    Raises:
        UserError: Model or data cannot be loaded or do not fit the policy.
        UnsupportedError: The device cannot run the network with these bits.
        DeviceError: The device does not exist, or its file is invalid.

    Examples:
        >>> document = evaluate("results/digits")  # doctest: +SKIP
        >>> document["accuracy_fp32"] - document["accuracy"]  # doctest: +SKIP
    """
    document = evaluate_artifact(_as_artifact(artifact, model, task, settings))
    warn_caller(document["warnings"])
    return document


def export(
    artifact: Artifact | Policy | str | Path,
    format: FormatName = "onnx",  # noqa: A002  the name of the flag
    *,
    out: str | Path | None = None,
    compact: bool = False,
    toolchain: ToolchainName | None = None,
    lookup_tables: bool = True,
    model: nn.Module | str | None = None,
    task: TaskLike | None = None,
    **settings: Any,
) -> ExportRecord:
    """Export a policy as files that other tools execute.

    The files are compared with the quantized network on images of the search split before they are written.

    Args:
        artifact: Artifact, policy, policy file, or folder of a run.
        format: Format of the files.
        out: Main file; if None, one named after the network in the folder of the artifact.
        compact: For `onnx`: store weights of 4 and 2 bits as such; smaller, but run in float.
        toolchain: For `qonnx`: refuse what this tool cannot take.
        lookup_tables: For `tflite`: store weights as lookup tables where that is smallest; without, LiteRT runs the
            file too.
        model: Network, as in `haq.load`.
        task: Data, as in `haq.load`.
        settings: Fields of `haq.config.SearchConfig` that override those of the run.

    Returns:
        The written files, their agreement with the quantized network, and how every layer is stored.

    Raises:
        UserError: The format cannot take the network, the files compute something else, or `out` cannot be used.

    Examples:
        >>> record = export("results/digits", "onnx", out="digits.onnx")  # doctest: +SKIP
        >>> record.outputs.noise  # doctest: +SKIP
    """
    found = _as_artifact(artifact, model, task, settings)
    options = ExportOptions(compact=compact, toolchain=toolchain, lookup_tables=lookup_tables)
    record = export_artifact(found, format, out=None if out is None else Path(out), options=options)
    warn_caller(record.warnings)
    return record


def simulate(
    model: nn.Module | str = "digits_cnn",
    policy: Policy | None = None,
    *,
    w_bits: int | None = 8,
    a_bits: int | None = 8,
    exclude_first_last: bool = False,
    **settings: Any,
) -> dict[str, Any]:
    """Simulate latency, energy, size and bit operations of a policy, or of uniform bits, on a device.

    Args:
        model: Network or its name.
        policy: Bits of all layers; None for uniform bits.
        w_bits: Uniform bits of weights, 1 to 8; None leaves them in float.
        a_bits: Uniform bits of input activations, 1 to 8; None leaves them in float.
        exclude_first_last: Whether to leave the first and the last layer out of layers and totals.
        settings: Fields of `haq.config.SearchConfig`, such as `hardware`, `batch` and `input`.

    Returns:
        The document that `haq simulate --json` prints, with `layers` and `totals`. Latencies are in seconds and
        energies in joules, of the whole batch; values that the device does not model are None.

    Raises:
        UserError: The network cannot be priced, or the policy does not fit it.
        UnsupportedError: The device has no cost for the bits.
        DeviceError: The device does not exist, or its file is invalid.

    Examples:
        >>> document = simulate("digits_cnn", hardware="bismo-edge", w_bits=4, a_bits=4)
        >>> document["totals"]["weight_bytes"] == sum(layer["weight_bytes"] for layer in document["layers"])
        True
    """
    name = model if isinstance(model, str) else type(model).__name__
    config = search_config(model=name, **settings)
    priced = load_priced(config, model=None if isinstance(model, str) else model)
    layers = priced.layers
    bits = uniform_bits(layers, w_bits=w_bits, a_bits=a_bits) if policy is None else policy_bits(layers, policy, name)
    require_deployable(deployment_target(config), bits, layers=layers, heads=priced.heads)
    refused = priced.refused
    return simulation(name, priced.table, bits, refused=refused, exclude_first_last=exclude_first_last).to_json()


def _as_artifact(
    artifact: Artifact | Policy | str | Path,
    model: nn.Module | str | None,
    task: TaskLike | None,
    settings: dict[str, Any],
) -> Artifact:
    """Return an artifact with its network and data replaced by objects that are given."""
    if not isinstance(artifact, Artifact):
        return _artifact(Path(artifact) if isinstance(artifact, str) else artifact, model, task, settings)
    if settings or isinstance(model, str) or isinstance(task, str):
        raise UserError("the settings of an artifact are those that it was loaded with; give them to haq.load")
    objects = Inputs.of(model, None if task is None else as_task(task))
    inputs = Inputs(objects.model or artifact.inputs.model, objects.task or artifact.inputs.task)
    return replace(artifact, inputs=inputs)


def _artifact(
    source: Path | Policy, model: nn.Module | str | None, task: TaskLike | None, settings: dict[str, Any]
) -> Artifact:
    """Read an artifact; objects replace what its settings name, and names replace the settings."""
    found = None if task is None else as_task(task)
    names = names_of(model if isinstance(model, str) else None, found if isinstance(found, str) else None)
    return load_artifact(source, search_config(**names, **settings), inputs=Inputs.of(model, found))


def _kept(result: Result, path: Path, inputs: Inputs, *, out: str | Path | None) -> Result:
    """Return a result with its artifact, after drawing the figures of a folder that is kept."""
    objects = Inputs(inputs.model, inputs.task)
    if out is None:
        return replace(result, artifact=load_temporary(path, objects), path=None)
    from haq.report.plots import draw_missing  # matplotlib takes longer to import than all the rest

    draw_missing(path)
    return replace(result, artifact=load_artifact(path, inputs=objects))
