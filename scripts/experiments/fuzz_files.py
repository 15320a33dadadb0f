"""Read damaged files of every format, and count those that are refused, accepted, or make a reader fail.

    pip install atheris
    python scripts/experiments/fuzz_files.py --cases 10000 --out results/fuzzing.json
    python scripts/experiments/fuzz_files.py --table --out results/fuzzing.json

Each format has a child process of its own, in which atheris (https://github.com/google/atheris) changes the content of
valid files, led by the lines of haq that the changes reach. Folders of runs and command lines are made of the changed
content (`fuzzed_runs.py`, `fuzzed_commands.py`). A reader may return, or raise UserError or DescriptionError
with a printable line; whatever else it raises is a failure. A case above 300 s or 2 GiB ends the process, and is one
too. Contents that fail are kept in --failures.
"""

import argparse
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from fuzzed_formats import Format

SEED = 1
MAX_BYTES = 4096
TIMEOUT_S = 300
"""Limit on a case, by the clock: the first command line loads libraries, on a machine that may be busy."""


def _outcome(chosen: "Format", path: Path) -> str:
    """Read a file, and say whether it was accepted, refused, or made the reader fail, and where."""
    from haq.errors import UserError
    from hardware_sim.description_files import DescriptionError

    try:
        chosen.read(path)
    except (UserError, DescriptionError) as error:
        return "refused" if str(error).isprintable() else "failed: a message that is not one printable line"
    except Exception as error:  # noqa: BLE001  failures are what is looked for
        place = traceback.extract_tb(error.__traceback__)[-1]
        detail = f": {error}"[:300] if isinstance(error, AssertionError) else ""
        return f"failed: {type(error).__name__} in {Path(place.filename).name}:{place.lineno}{detail}"
    return "accepted"


def fuzz(name: str, chosen: "Format", *, cases: int, failures: Path) -> None:
    """Read changed files of a format, print the counts, and end the process."""
    import atheris

    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        corpus, path = Path(folder).resolve() / "corpus", Path(folder).resolve() / "work" / chosen.file_name
        corpus.mkdir()
        path.parent.mkdir()
        for number, seed in enumerate(chosen.seeds()):
            (corpus / str(number)).write_bytes(seed)

        def read(content: bytes) -> None:
            path.write_bytes(content)
            outcome = _outcome(chosen, path)
            if outcome.startswith("failed") and outcome not in counts:
                (failures / f"{name}-{len(counts)}").write_bytes(content)
            counts[outcome] += 1
            if counts.total() % 100 == 0 or outcome.startswith("failed") or counts.total() == cases:
                print(json.dumps(counts), flush=True)
            if counts.total() == cases:  # atheris would end the interpreter of a forked process, which may crash
                shutil.rmtree(folder)
                os._exit(0)

        largest = max(MAX_BYTES, *(2 * len(seed) for seed in chosen.seeds()))
        limits = [f"-max_len={largest}", "-rss_limit_mb=2048", f"-timeout={TIMEOUT_S}"]
        flags = [f"-seed={SEED}", *limits, f"-artifact_prefix={failures / name}-"]  # for contents beyond the limits
        atheris.Setup([sys.argv[0], *flags, "-verbosity=0", "-print_final_stats=0", str(corpus)], read)
        atheris.Fuzz()


def table(found: dict[str, dict[str, int]]) -> str:
    """Return a Markdown table of the counts."""
    lines = ["| format | cases | refused | accepted | failed |", "|---|---|---|---|---|"]
    for name, counts in found.items():
        failed = [f"{text.removeprefix('failed: ')} ({count})" for text, count in counts.items() if "failed" in text]
        cells = (sum(counts.values()), counts.get("refused", 0), counts.get("accepted", 0))
        lines.append(f"| {name} | {' | '.join(f'{cell:,}' for cell in cells)} | {'; '.join(failed) or 0} |")
    return "\n".join(lines)


def fuzz_in_child(name: str, chosen: "Format", *, cases: int, failures: Path) -> dict[str, int]:
    """Fuzz a format in a child of this process, which has imported everything; return the counts."""
    failures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        child = os.fork()
        if not child:
            os.dup2(output.fileno(), 1)
            os.dup2(errors.fileno(), 2)
            fuzz(name, chosen, cases=cases, failures=failures)
        _, status = os.waitpid(child, 0)
        if not any(failures.iterdir()):
            failures.rmdir()
        printed, complaint = (_text(file) for file in (output, errors))
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    counts: dict[str, int] = json.loads(lines[-1]) if lines else {}
    if status:
        counts[f"failed: {complaint.strip().splitlines()[-1][:200] if complaint.strip() else status}"] = 1
    return counts


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def main() -> None:
    """Fuzz all formats, or those that are named, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*")
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--failures", type=Path, default=Path("fuzzing-failures"))
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    found = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    if not options.table:
        import atheris

        with atheris.instrument_imports(include=["haq", "hardware_sim"]):
            from fuzzed_formats import formats

            import_module("haq.cli.app")
            known = formats()
        for name in options.formats or known:
            found[name] = fuzz_in_child(name, known[name], cases=options.cases, failures=options.failures.resolve())
            options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
            print(name, found[name], flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
