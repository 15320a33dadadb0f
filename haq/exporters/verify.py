"""Verification of an artifact in the runtimes of this machine: codes layer by layer, predictions and scores."""

from collections.abc import Sequence

import torch

from haq.errors import UserError
from haq.execution.progress import SILENT, Watcher
from haq.execution.structures import rebuilt, tensors
from haq.experiment.artifact import Artifact
from haq.exporters.agreement import OutputAgreement, compare_outputs
from haq.exporters.deployable import Deployable, make_deployable
from haq.exporters.formats import Export, ExportOptions, FormatName
from haq.exporters.history import record_verification
from haq.exporters.protocols import Runtime
from haq.exporters.records import CodesRecord, OutputRecord, RuntimeRecord, VerificationRecord
from haq.exporters.registry import RUNTIMES, make_exporter, make_runtime
from haq.runs.records import Metric
from haq.tasks.predictions import predictions

CODE_IMAGES = 8
"""Largest number of images on which codes are compared."""


def verify_artifact(
    artifact: Artifact,
    runtimes: Sequence[str] = (),
    *,
    images: int | None = None,
    watcher: Watcher = SILENT,
) -> VerificationRecord:
    """Execute a policy in several runtimes, and compare them with the integer reference and the quantized network.

    Args:
        artifact: Policy with its network and quantizers.
        runtimes: Names of the runtimes; all if empty. Those that this machine lacks are named in the result.
        images: Largest number of report images for each runtime; None for the whole split. A slow runtime takes no more
            than it executes in about a minute.
        watcher: Receives phases.

    Returns:
        The results of all runtimes.

    Raises:
        UserError: A runtime is unknown, or network or data cannot be loaded.
    """
    for name in runtimes:
        make_runtime(name)  # raises for an unknown one before anything is loaded
    network = make_deployable(artifact, progress=watcher.phase)
    record = verify_network(network, runtimes, images=images, watcher=watcher)
    record_verification(artifact, record)
    return record


def verify_network(
    network: Deployable,
    runtimes: Sequence[str] = (),
    *,
    images: int | None = None,
    watcher: Watcher = SILENT,
) -> VerificationRecord:
    """Execute a loaded network in several runtimes; see `verify_artifact`.

    Args:
        network: Network with its policy.
        runtimes: Names of the runtimes, of which equal ones run once; all if empty.
        images: Largest number of report images for each runtime.
        watcher: Receives phases.

    Returns:
        The results of all runtimes.

    Raises:
        UserError: A runtime is unknown.
    """
    exports: dict[FormatName, Export | str] = {}
    records = []
    for name in dict.fromkeys(runtimes or RUNTIMES):
        watcher.phase(name)
        records.append(_verified(make_runtime(name), network, exports, images))
    return VerificationRecord(
        model=network.network.priced.name,
        metric=Metric(**network.network.task.metric.record(0.0) | {"value": None}),
        layers=tuple(layer.name for layer in network.policy.layers),
        runtimes=tuple(records),
    )


def _verified(
    runtime: Runtime, network: Deployable, exports: dict[FormatName, Export | str], images: int | None
) -> RuntimeRecord:
    """Verify one runtime; `exports` keeps the files of a format, or the reason why there are none."""
    missing = runtime.missing()
    if missing is None:
        if runtime.format not in exports:
            exports[runtime.format] = _built(runtime.format, network)
        export = exports[runtime.format]
        if not isinstance(export, str):
            limits = [limit for limit in (images, runtime.max_images) if limit is not None]
            return _record(runtime, export, network, images=min(limits, default=None))
        missing = export
    return RuntimeRecord(name=runtime.name, format=runtime.format, missing=missing)


def _built(name: FormatName, network: Deployable) -> Export | str:
    try:
        network.require_format(name)
        return make_exporter(name).build(network, ExportOptions())
    except UserError as error:
        return str(error)


def _record(runtime: Runtime, export: Export, network: Deployable, *, images: int | None) -> RuntimeRecord:
    """Compare codes on a few images, then outputs and scores on the report split."""
    limit = CODE_IMAGES if images is None else min(CODE_IMAGES, images)
    layers = tuple(map(CodesRecord.of, runtime.layer_codes(export, network, network.check_inputs(limit))))
    task, batch_size = network.network.task, network.artifact.config.eval_batch
    run, expected = runtime.runner(export, network), network.quantized(export.bits)
    meters, agreement = (task.meter(), task.meter()), OutputAgreement()
    for each in predictions(run, task, "report", batch_size=batch_size, limit=images):
        with torch.no_grad():
            outputs = expected(each.inputs)
        agreement += compare_outputs(task, each.outputs, outputs)
        meters[0].update(rebuilt(outputs, tensors(each.outputs)), each.targets)
        meters[1].update(outputs, each.targets)
    score, expected_score = (task.metric.score(meter.compute()) for meter in meters)
    return RuntimeRecord(
        name=runtime.name,
        format=runtime.format,
        file_bytes=sum(map(len, export.files.values())),
        score=score,
        expected_score=expected_score,
        outputs=OutputRecord.of(agreement, items=task.metric.items),
        layers=layers,
    )
