"""Contents of the folder of a run that two equal runs share: all but durations, pictures and checkpoints."""

import csv
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

LEFT_OUT = {"environment.json", "checkpoint.pt", ".haq.lock"}
PICTURES_AND_PAGES = {".png", ".md"}
MEASURED = ("seconds", "latency_s", "latency_iqr_s")
"""Endings of the names of values that are times."""


def contents(folder: Path) -> dict[str, Any]:
    """Return what can be compared of every file in a folder and below, by relative path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    kept = (path for path in files if path.name not in LEFT_OUT and path.suffix not in PICTURES_AND_PAGES)
    return {str(path.relative_to(folder)): _content(path) for path in kept}


def episodes(folder: Path) -> list[tuple[str, Any]]:
    """Return the journal lines of a folder and below as (file, number of the episode, epoch or cell)."""
    found = []
    for path in sorted(folder.rglob("*.jsonl")):
        for text in path.read_text(encoding="utf-8").splitlines():
            line = json.loads(text)
            key = line.get("episode", line.get("epoch", (line.get("layer"), line.get("part"), line.get("bits"))))
            found.append((str(path.relative_to(folder)), key))
    for path in sorted(folder.rglob("*.csv")):
        rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
        found += [(str(path.relative_to(folder)), tuple(_timeless(row).items())) for row in rows]
    return found


def _content(path: Path) -> Any:
    if path.suffix == ".json":
        return _timeless(json.loads(path.read_text(encoding="utf-8")))
    if path.suffix == ".jsonl":
        return [_timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    if path.suffix == ".csv":
        return [_timeless(row) for row in csv.DictReader(path.read_text(encoding="utf-8").splitlines())]
    return sha256(path.read_bytes()).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: each for key, each in value.items() if not key.endswith(MEASURED) and key != "environment"}
        return {key: _timeless(each) for key, each in kept.items()}
    return [_timeless(each) for each in value] if isinstance(value, list) else value
