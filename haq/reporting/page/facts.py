"""Tables of a run that are no results: what was exported and verified, and where the numbers come from."""

from collections.abc import Iterator, Mapping
from typing import Any

from haq.exporters.records import OutputRecord, VerificationRecord
from haq.formatting import counted, format_cost, percent
from haq.reporting.page.runs import ReportedRun
from haq.runs.run_folder import RESOLVED
from haq.settings import GROUPS
from haq.tables import Table
from haq.tasks.metrics import metric_of

_RESOLVED_FACTS = ("network", "engine", "engine_reason", "batch")
"""Resolved values of `config.json` that are shown as they are."""


def exports_table(run: ReportedRun) -> Table | None:
    """List the exported files of a run and how they were verified.

    Args:
        run: The run.

    Returns:
        A row for each export; None if there was none.
    """
    rows = []
    for record in run.exports:
        outputs = record.outputs
        names = ", ".join(file.path for file in record.files)
        agreement = "" if outputs is None or outputs.same_predictions is None else percent(outputs.same_predictions)
        size = format_cost("size", sum(file.bytes for file in record.files))
        verified = f"{record.runtime}, {_inputs(outputs)}" if outputs and record.runtime else "not verified"
        rows.append(
            (names, record.format, size, verified, agreement, "" if outputs is None else f"{outputs.noise:.2g}")
        )
    columns = ("files", "format", "size", "verified in", "same predictions", "output error")
    return Table(columns, tuple(rows), text_columns=2) if rows else None


def verification_table(record: VerificationRecord) -> Table:
    """List the results of a verification.

    Args:
        record: The verification.

    Returns:
        A row for each runtime.
    """
    metric = metric_of(record.metric)
    rows: list[tuple[str, ...]] = []
    for each in record.runtimes:
        if each.missing is not None or each.outputs is None or each.score is None or each.expected_score is None:
            rows.append((each.name, each.format, f"not verified: {each.missing}", "", "", ""))
            continue
        compared = sum(layer.compared for layer in each.layers)
        codes = f"{each.differing:,} of {compared:,}" if compared else ""
        scores = (metric.text(score, digits=2) for score in (each.score, each.expected_score))
        rows.append((each.name, each.format, _inputs(each.outputs), *scores, codes))
    columns = ("runtime", "format", "verified", metric.name, "expected", "codes that differ")
    return Table(columns, tuple(rows), text_columns=3)


def _inputs(outputs: OutputRecord) -> str:
    return counted(outputs.images, outputs.items.removesuffix("s"))


def provenance(run: ReportedRun) -> Iterator[tuple[str, Table]]:
    """List settings, data and software of a run.

    Args:
        run: The run.

    Yields:
        Titles and tables of two columns.
    """
    for group in GROUPS:
        values = {name: run.settings[name] for name in group.model_fields if name in run.settings}
        rows = tuple((name.replace("_", " "), _text(value)) for name, value in values.items() if value is not None)
        if rows:
            yield group.heading, _pairs(rows)
    resolved = run.settings.get(RESOLVED)
    if isinstance(resolved, dict):
        found = [(name.replace("_", " "), _text(resolved[name])) for name in _RESOLVED_FACTS if name in resolved]
        yield "Resolved", _pairs((*found, *_data_facts(resolved.get("data"))))
    software = [(name, _text(value)) for name, value in run.environment.items() if not isinstance(value, dict)]
    packages = run.environment.get("packages")
    if isinstance(packages, dict):
        software += [(name, _text(value)) for name, value in packages.items() if value is not None]
    if software:
        yield "Software and machine", _pairs(tuple(software))


def _pairs(rows: tuple[tuple[str, str], ...]) -> Table:
    return Table(("setting", "value"), rows, text_columns=2)


def _data_facts(data: object) -> Iterator[tuple[str, str]]:
    """Yield the sizes and hashes of the splits, and the transform."""
    if not isinstance(data, dict):
        return
    splits = data.get("splits")
    for name, split in splits.items() if isinstance(splits, dict) else ():
        if isinstance(split, dict):
            yield f"{name} split", f"{split.get('size')} items, sha256 {str(split.get('sha256'))[:16]}"
    for name in ("num_classes", "transform"):
        if data.get(name) is not None:
            yield name.replace("_", " "), _text(data[name])


def _text(value: Any) -> str:
    """Format a value of a JSON file."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(each)}" for key, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value)) or "none"
    return "none" if value is None else str(value)
