"""Tables in pages of results that follow from committed run and data files, computed anew from these files."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import collect_comparisons
import collect_results
import compare_finalists
import compare_float_shifts
import compare_gptq_in_search
import deploy_networks
import deployment_tables
import detection_networks
import finetune_on_cifar
import finetune_policies
import fuzz_files
import image_noise
import language_models
import mcu_table
import mutation_scores
import pandas as pd
import reconstruct_networks
import search_networks
import shift_tables
import yolo_agreement
from stored_cells import Cell

from haq.tables import markdown

REPORT_IMAGES = {"rounding_in_search": 4000, "rounding_in_search_digits": 540}


@dataclass(frozen=True, slots=True)
class StoredTable:
    """Table of a page.

    Attributes:
        page: Markdown page, relative to the repository.
        data: Files that the table follows from, relative to the repository.
        rows: Computes the lines of the table from the folder of the repository.
    """

    page: str
    data: str
    rows: Callable[[Path], Iterable[str]]

    def missing_rows(self, root: Path) -> Iterator[str]:
        """Yield the computed lines that the page does not have."""
        lines = set((root / self.page).read_text(encoding="utf-8").splitlines())
        yield from (row for row in self.rows(root) if row and row not in lines)


def _records(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV file, with None where a cell is empty; numbers are numbers."""
    frame = pd.read_csv(path)
    return [
        {str(name): None if pd.isna(value) else value for name, value in row.items()}
        for row in frame.astype(object).to_dict("records")
    ]


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _networks(root: Path, name: str) -> Iterator[str]:
    folder = root / "results" / name
    rows = _json(folder / "results.json")
    yield from (*search_networks.accuracy_table(rows), *search_networks.bits_table(rows, folder))


def _reconstructed(root: Path, name: str) -> list[str]:
    rows = _json(root / "results" / name / "reconstructed.json")
    return markdown([reconstruct_networks.table(rows)]).splitlines()


def _cells(folder: Path, order: Mapping[str, str]) -> dict[str, dict[int, Cell]]:
    """Return the cells of a folder by name and seed, in the order of the page; `order` maps names of files to names."""
    found: dict[str, dict[int, Cell]] = {}
    for path in sorted(folder.glob("*-s?.json")):
        stem, _, seed = path.stem.rpartition("-s")
        found.setdefault(order.get(stem, stem), {})[int(seed)] = _json(path)
    return found


def _spoken(stem: str) -> str:
    """Return the name of a language model's cell from that of its file.

    >>> _spoken("latency-of-w3a3-fine-tuned"), _spoken("w4a4-fine-tuned")
    ('latency of w3a3, fine-tuned', 'w4a4, fine-tuned')
    """
    return stem.replace("-fine-tuned", ", fine-tuned").replace("-of-", " of ")


def _language(root: Path, name: str) -> Iterable[str]:
    folder = root / "results" / "language_models" / name
    stems = {path.stem.rpartition("-s")[0] for path in folder.glob("*.json")}
    return language_models.table(_cells(folder, {stem: _spoken(stem) for stem in stems}))


def _yolo(root: Path) -> Iterator[str]:
    for path in sorted((root / "results" / "detection" / "yolo").glob("*.json")):
        name, label = path.stem, "float"
        if not name.endswith("-float"):
            name, _, label = path.stem.rpartition("-w")
        name, bits = name.removesuffix("-float"), None if label == "float" else int(label.partition("a")[0])
        shift = "shift" if bits is None else label.partition("-")[2]
        yield yolo_agreement.row(name, bits, shift, _json(path))


def _shifts(root: Path) -> Iterator[str]:
    rows = _records(root / "results" / "learned_shifts.csv")
    widths = sorted({int(row["bits"]) for row in rows if row["bits"] is not None}, reverse=True)
    for learn in dict.fromkeys(row["learn"] for row in rows):
        yield from shift_tables.table(rows, widths, learn)


def _float_shifts(root: Path) -> Iterable[str]:
    return compare_float_shifts.table(_records(root / "results" / "float_shifts.csv"))


def _gptq(root: Path, name: str) -> Iterable[str]:
    rows = _records(root / "results" / f"{name}.csv")
    return compare_gptq_in_search.table(rows, report_images=REPORT_IMAGES[name])


def _finalists(root: Path, name: str) -> Iterable[str]:
    folder = root / "results" / "finalists" / name
    return compare_finalists.table([_json(path) for path in sorted(folder.glob("*.json"))])


def _comparisons(root: Path) -> Iterable[str]:
    return collect_comparisons.optimism_rows(pd.read_csv(root / "results" / "methods" / "comparisons.csv"))


def _finetuning(root: Path) -> Iterable[str]:
    return finetune_on_cifar.table(_records(root / "results" / "finetuning-cifar.csv"))


def _policies(root: Path) -> Iterable[str]:
    return finetune_policies.table(_records(root / "results" / "policies.csv"))


def _deployment(root: Path) -> list[str]:
    return deployment_tables.tables(deploy_networks.read_documents(root / "results" / "deployment")).splitlines()


def _mcu(root: Path) -> Iterator[str]:
    folder = root / "results" / "mcu"
    for line in mcu_table.page(folder, mcu_table.measured_shapes(folder)):
        yield from line.splitlines()


TABLES = (
    StoredTable("README.md", "results/*/results.json", lambda root: collect_results.readme_rows(root / "results")),
    StoredTable("results/README.md", "its runs", lambda root: collect_results.digits_rows(root / "results")),
    *(
        StoredTable(f"results/{name}/README.md", "results.json", lambda root, name=name: _networks(root, name))  # type: ignore[misc]
        for name in ("networks", *reconstruct_networks.FOLDERS)
    ),
    StoredTable("README.md", "reconstructed.json", lambda root: collect_results.reconstructed_rows(root / "results")),
    *(
        StoredTable(
            f"results/{name}/reconstructed.md",
            "reconstructed.json",
            lambda root, name=name: _reconstructed(root, name),  # type: ignore[misc]
        )
        for name in reconstruct_networks.FOLDERS
    ),
    StoredTable("results/methods/README.md", "comparisons.csv", _comparisons),
    StoredTable(
        "results/image_noise.md", "methods", lambda root: image_noise.table(root / "results" / "methods").splitlines()
    ),
    StoredTable("results/deployment.md", "results/deployment", _deployment),
    StoredTable("results/mcu/README.md", "results/mcu/*.csv", _mcu),
    StoredTable(
        "results/detection.md",
        "results/detection/shapes",
        lambda root: detection_networks.table(_cells(root / "results/detection/shapes", {})),
    ),
    StoredTable("results/detection.md", "results/detection/yolo", _yolo),
    StoredTable("results/language_models.md", "shakespeare", lambda root: _language(root, "shakespeare")),
    StoredTable("results/language_models.md", "wikitext", lambda root: _language(root, "wikitext")),
    StoredTable("results/finetuning-cifar.md", "finetuning-cifar.csv", _finetuning),
    StoredTable("results/policies.md", "policies.csv", _policies),
    StoredTable("results/learned_shifts.md", "learned_shifts.csv", _shifts),
    StoredTable("results/float_shifts.md", "float_shifts.csv", _float_shifts),
    *(
        StoredTable("results/rounding_in_search.md", f"{name}.csv", lambda root, name=name: _gptq(root, name))  # type: ignore[misc]
        for name in REPORT_IMAGES
    ),
    *(
        StoredTable("results/finalists.md", f"finalists/{name}", lambda root, name=name: _finalists(root, name))  # type: ignore[misc]
        for name in ("digits-0.25", "digits-0.28", "resnet20")
    ),
    StoredTable(
        "results/mutation.md",
        "mutation.json",
        lambda root: mutation_scores.table(_json(root / "results/mutation.json")).splitlines(),
    ),
    StoredTable(
        "results/fuzzing.md",
        "fuzzing.json",
        lambda root: fuzz_files.table(_json(root / "results/fuzzing.json")).splitlines(),
    ),
)
