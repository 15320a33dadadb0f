"""Loading, evaluation and export of the results of runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from haq.config import search_config
from haq.errors import UserError, warn_caller
from haq.experiment.artifact import Artifact, load_artifact
from haq.experiment.evaluate import evaluate_artifact
from haq.experiment.inputs import Inputs, names_of
from haq.exporters.export import export_artifact
from haq.exporters.formats import ExportOptions, FormatName, ToolchainName
from haq.exporters.records import ExportRecord
from haq.policy import Policy
from haq.tasks import TaskLike, as_task


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
        The artifact, with policy, quantizers, corrections, layers with their costs, summary, and the quantized network
        as `artifact.model`.

    Raises:
        UserError: The folder holds no policy, or a file is missing or damaged.

    Examples:
        >>> artifact = load("results/digits")  # doctest: +SKIP
        >>> logits = artifact.model(images)  # doctest: +SKIP
    """
    return _artifact(_path("path", path), model, task, settings)


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
        The document that `haq evaluate --json` prints, with `model`, `hardware`, `metric`, `images`, `accuracy`,
        `accuracy_fp32`, `details` and `details_fp32` (further values of the task, such as `ap50`), `cost`,
        `baseline_cost` and `warnings`. Accuracies are fractions in [0, 1].

    Raises:
        UserError: Model or data cannot be loaded or do not fit the policy.
        UnsupportedError: The device cannot run the network with these bits.
        DescriptionError: The device or the deployment target does not exist, or its file is invalid.

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
        compact: For `onnx`: store weights of 4 and 2 bits as such; fewer runtimes read the file.
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
    record = export_artifact(found, format, out=None if out is None else _path("out", out), options=options)
    warn_caller(record.warnings)
    return record


def _as_artifact(
    artifact: Artifact | Policy | str | Path,
    model: nn.Module | str | None,
    task: TaskLike | None,
    settings: dict[str, Any],
) -> Artifact:
    """Return an artifact with its network and data replaced by objects that are given."""
    if not isinstance(artifact, Artifact):
        return _artifact(
            artifact if isinstance(artifact, Policy) else _path("artifact", artifact), model, task, settings
        )
    if settings or isinstance(model, str) or isinstance(task, str):
        raise UserError("the settings of an artifact are those that it was loaded with; give them to haq.load")
    objects = Inputs.of(model, None if task is None else as_task(task))
    inputs = Inputs(objects.model or artifact.inputs.model, objects.task or artifact.inputs.task)
    return replace(artifact, inputs=inputs)


def _path(name: str, value: str | Path) -> Path:
    """Return the path that an argument names; raise UserError for an argument of another type."""
    if not isinstance(value, str | Path):
        others = "an artifact, a policy or a path" if name == "artifact" else "a path"
        raise UserError(f"{name}={value!r:.60} is no path; give {others}")
    return Path(value)


def _artifact(
    source: Path | Policy, model: nn.Module | str | None, task: TaskLike | None, settings: dict[str, Any]
) -> Artifact:
    """Read an artifact; objects replace what its settings name, and names replace the settings."""
    found = None if task is None else as_task(task)
    names = names_of(model if isinstance(model, str) else None, found if isinstance(found, str) else None)
    return load_artifact(source, search_config(**names, **settings), inputs=Inputs.of(model, found))
