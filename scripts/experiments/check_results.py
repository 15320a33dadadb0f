"""Check that the committed results agree with each other: `make results-check`.

Tables follow from the data beside them, the numbers of the first search stand in `README.md`, every run has its
pictures, and runs have today's defaults where they were not given other settings. `--pictures` also draws the pictures
anew and compares them with the committed ones, byte for byte, which takes the version of matplotlib that drew these.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stored_tables import TABLES

from haq.config import SearchConfig
from haq.reporting.plots.files import save_figure
from haq.reporting.plots.run import FolderPlot, applicable, draw_run
from haq.runs.run_folder import CONFIG, POLICY, SUMMARY, RunFolder

ROOT = Path(__file__).resolve().parents[2]
QUICK_START = "quick_start"
PICTURES: Mapping[str, FolderPlot] = {"policy.png": "policy", "learning_curve.png": "learning"}
CHOSEN = frozenset(
    {
        *("model", "weights", "input", "data", "search_from", "split_seed", "normalize", "resize", "crop"),
        *("search_images", "report_images", "calibration_images", "eval_batch"),
        *("hardware", "batch", "deploy", "objective", "budget", "max_accuracy_drop", "confidence", "pin"),
        *("episodes", "seed", "device"),
    }
)
"""Settings that say what a run is about; all others have their defaults, but for `GIVEN`."""
GIVEN = {"mcu-cortex-m7-measured": {"first_last_bits"}}
"""Other settings that a run was given on purpose, by the name of its folder."""


def tables(root: Path) -> Iterator[str]:
    """Yield the rows of tables that do not follow from the data beside them."""
    for table in TABLES:
        for row in table.missing_rows(root):
            yield f"{table.page} lacks a row that follows from {table.data}: {row}"


def quick_start(root: Path) -> Iterator[str]:
    """Yield the numbers of the first search that its section of `README.md` does not have."""
    text = (root / "README.md").read_text(encoding="utf-8")
    section = text.split("## Quick start\n", 1)[1].split("\n## ", 1)[0]
    found = set(re.findall(r"(\d+\.\d+) %", section))
    search = _json(root / "results" / QUICK_START / SUMMARY)
    uniform = max(each["accuracy"] for each in search["uniform"])
    values = (search["accuracy_fp32"], search["accuracy"], uniform)
    for value in {f"{100 * each:.2f}" for each in values} - found:
        yield f"README.md, quick start: {value} % of results/{QUICK_START} is not there"
    for value in found - {f"{100 * each:.2f}" for each in values}:
        yield f"README.md, quick start: {value} % is not in results/{QUICK_START}"


def pictures(root: Path) -> Iterator[str]:
    """Yield the pictures that finished searches lack."""
    for run in _searches(root):
        for name in PICTURES:
            if not (run / name).is_file():
                yield f"{run.relative_to(root)} has no {name}"


def defaults(root: Path) -> Iterator[str]:
    """Yield the settings of runs that are neither their defaults nor given on purpose."""
    today = SearchConfig().model_dump(mode="json")
    for run in _runs(root):
        config = _json(run / CONFIG)
        for name in today.keys() - CHOSEN - GIVEN.get(run.name, set()):
            if config.get(name, today[name]) != today[name]:
                was, default = (json.dumps(value) for value in (config[name], today[name]))
                yield f"{run.relative_to(root)} was made with {name} {was}, the default is {default}"


def drawn(root: Path) -> Iterator[str]:
    """Yield the pictures that differ from those that are drawn anew; learning curves take the journal of a run."""
    with TemporaryDirectory() as folder:
        for run in _searches(root):
            kinds = applicable(RunFolder(run))
            for name, kind in PICTURES.items():
                anew, committed = Path(folder) / name, run / name
                if kind not in kinds or not committed.is_file():
                    continue
                save_figure(draw_run(run, kind), anew)
                if committed.read_bytes() != anew.read_bytes():
                    yield f"{committed.relative_to(root)} differs from what haq plot draws"


def _runs(root: Path) -> Iterator[Path]:
    return (path.parent for path in sorted((root / "results").rglob(CONFIG)))


def _searches(root: Path) -> Iterator[Path]:
    return (run for run in _runs(root) if (run / POLICY).is_file() and "uniform" in _json(run / SUMMARY))


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> int:
    """Print what does not agree; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", action="store_true", help="also draw the pictures anew")
    checks = [tables, quick_start, pictures, defaults, *([drawn] if parser.parse_args().pictures else [])]
    found = [line for check in checks for line in check(ROOT)]
    print("\n".join(found) or f"{len(TABLES)} tables and {len(list(_runs(ROOT)))} runs agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
