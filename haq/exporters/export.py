"""Export of an artifact: build the files, compare them with the quantized network, write them."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from haq.errors import UserError
from haq.execution.progress import SILENT, Watcher
from haq.execution.structures import rebuilt, take
from haq.experiment.artifact import Artifact
from haq.exporters.agreement import OutputAgreement, compare_outputs
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.formats import Export, ExportOptions, FormatName, ToolchainName
from haq.exporters.history import record_export
from haq.exporters.integer.reference import run
from haq.exporters.protocols import Exporter, Runtime
from haq.exporters.records import ExportRecord, FileRecord, LayerRecord, OutputRecord
from haq.exporters.registry import make_exporter, make_runtime
from haq.files import link_target, write_together
from haq.runs.run_folder import safe_name

MAX_NOISE = 0.1
"""Largest relative output error of a file that is written; a wrong graph has about 1."""
EXACT_IMAGES = 4
"""Number of inputs on which files that compute in integers alone are compared with the exact reference."""
MIN_SAME_PREDICTIONS = 0.99
"""Fraction of equal predictions below which a warning says so."""


def export_artifact(
    artifact: Artifact,
    format_name: str,
    *,
    out: Path | None = None,
    options: ExportOptions | None = None,
    watcher: Watcher = SILENT,
) -> ExportRecord:
    """Export an artifact and verify the files before they are written.

    Args:
        artifact: Policy with its network and quantizers.
        format_name: Name of the format.
        out: Main file; None for one named after the network, in the folder of the artifact.
        options: Options of the format.
        watcher: Receives phases.

    Returns:
        The files, their agreement with the quantized network, and the layers.

    Raises:
        UserError: An option is of another format, the format cannot take the network, the files compute something else,
            or `out` cannot be used.
    """
    exporter, options = make_exporter(format_name), options or ExportOptions()
    _require_applicable(options, exporter.format)
    path = _main_file(artifact, exporter) if out is None else out
    _require_usable(path, exporter)
    network = make_deployable(artifact, progress=watcher.phase)
    network.require_format(exporter.format)
    watcher.phase(f"build {exporter.format}")
    stem = path.name.removesuffix(exporter.suffix)
    export = exporter.build(network, replace(options, stem=stem))
    watcher.phase("verify")
    runtime = _first_available(exporter)
    agreement = None if runtime is None else _agreement(runtime, export, network, path)
    contents = {path.with_name(stem + suffix): content for suffix, content in export.files.items()}
    targets = contents if out is None else {link_target(file): content for file, content in contents.items()}
    write_together(dict(reversed(targets.items())))  # the main file last
    record = ExportRecord(
        format=exporter.format,
        files=tuple(FileRecord(path=str(file), bytes=len(content)) for file, content in contents.items()),
        runtime=None if runtime is None else runtime.name,
        outputs=None if agreement is None else OutputRecord.of(agreement, items=network.network.task.metric.items),
        layers=tuple(map(LayerRecord.of, export.layers)),
        notes=export.notes,
        warnings=tuple(_warnings(exporter, agreement)),
    )
    record_export(artifact, record)
    return record


def _require_applicable(options: ExportOptions, name: FormatName) -> None:
    """Raise UserError for an unknown toolchain, and for an option of another format, which would have no effect."""
    toolchains = get_args(ToolchainName)
    if options.toolchain is not None and options.toolchain not in toolchains:
        raise UserError(f"--for {options.toolchain} is unknown; tools are {', '.join(toolchains)}")
    given: tuple[tuple[str, FormatName, bool], ...] = (
        ("--compact", "onnx", options.compact),
        (f"--for {options.toolchain}", "qonnx", options.toolchain is not None),
        ("--no-lookup-tables", "tflite", not options.lookup_tables),
    )
    for flag, owner, is_given in given:
        if is_given and name != owner:
            raise UserError(f"{flag} is an option of --format {owner}; leave it out for --format {name}")


def _main_file(artifact: Artifact, exporter: Exporter) -> Path:
    """Return the default path of the main file."""
    folder = artifact.path or (artifact.source.path.parent if artifact.source.path else Path())
    suffix = exporter.suffix if exporter.suffix == f".{exporter.format}" else f".{exporter.format}{exporter.suffix}"
    return folder / f"{safe_name(artifact.config.model)}{suffix}"


def _require_usable(path: Path, exporter: Exporter) -> None:
    """Raise UserError for a path that cannot be the main file, before the network is loaded."""
    if path.is_dir():
        raise UserError(f"--out {path} is a folder; name a file, such as {path / 'network'}{exporter.suffix}")
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}; create it first")
    if not path.name.endswith(exporter.suffix) or path.name == exporter.suffix:
        raise UserError(f"--out {path}: a file of --format {exporter.format} ends in {exporter.suffix}")


def _first_available(exporter: Exporter) -> Runtime | None:
    runtimes = map(make_runtime, exporter.runtimes)
    return next((runtime for runtime in runtimes if runtime.missing() is None), None)


def _agreement(runtime: Runtime, export: Export, network: Deployable, path: Path) -> OutputAgreement:
    """Compare the files with the quantized network on the inputs of the check.

    Raises:
        UserError: The files compute something else than they should: the quantized network, or the integer network,
            which is less close to it at few bits.
    """
    inputs = network.check_inputs(runtime.max_images)
    with torch.no_grad():
        expected, found = network.quantized(export.bits)(inputs), runtime.runner(export, network)(inputs)
    task = network.network.task
    agreement = compare_outputs(task, found, expected)
    if export.integers is None:
        _require_same(agreement, path, "quantized", items=task.metric.items)
    else:
        few = slice(EXACT_IMAGES)
        output = torch.from_numpy(run(export.integers, take(inputs, few).numpy(force=True)))
        exact = rebuilt(take(expected, few), [output])
        _require_same(compare_outputs(task, take(found, few), exact), path, "integer", items=task.metric.items)
    return agreement


def _require_same(agreement: OutputAgreement, path: Path, name: str, *, items: str) -> None:
    """Raise UserError if files compute something else than a network."""
    if not agreement.noise <= MAX_NOISE:
        raise UserError(
            f"{path} was not written: its outputs differ from those of the {name} network, with a relative output "
            f"error of {agreement.noise:.3g} on {agreement.items} {items}; haq verify compares its layers"
        )


def _warnings(exporter: Exporter, agreement: OutputAgreement | None) -> Iterator[str]:
    if agreement is None:
        lacks = "; ".join(f"{name}: {make_runtime(name).missing()}" for name in exporter.runtimes)
        yield f"not verified, since no runtime of this format is here ({lacks})"
    elif agreement.predictions is not None and agreement.predictions < MIN_SAME_PREDICTIONS:
        same = f"{agreement.same_predictions} of {agreement.items}"
        yield f"only {same} predictions are those of the quantized network; see haq verify"
    elif agreement.noise > MAX_NOISE:
        yield f"the relative output error against the quantized network is {agreement.noise:.3g}; see haq verify"
