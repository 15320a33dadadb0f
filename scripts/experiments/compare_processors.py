"""Measure how much the results of a search differ between processors, of which fewer instructions stand in for others.

The same search, with the same weights of the network, in each of `PROCESSORS`, by each engine. Prints a Markdown table:

    python scripts/experiments/compare_processors.py
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from haq.cli.flags import read_several
from haq.formatting import percent
from haq.runs.environment import describe_environment

PROCESSORS: dict[str, dict[str, str]] = {
    "this one": {},
    "this one again": {},
    "`ATEN_CPU_CAPABILITY=avx2`": {"ATEN_CPU_CAPABILITY": "avx2"},
    "`ATEN_CPU_CAPABILITY=default`": {"ATEN_CPU_CAPABILITY": "default"},
    "`ONEDNN_MAX_CPU_ISA=AVX2`": {"ONEDNN_MAX_CPU_ISA": "AVX2"},
    "all three": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
}
"""Variables of the environment by the name of the processor."""
IMAGES = 200
"""Search images."""
SEARCH = (
    "search",
    "--search-images",
    str(IMAGES),
    "--report-images",
    "400",
    "--calibration-images",
    "64",
    "--no-store",
)
CAPABILITY = "import torch; print(torch.backends.cpu.get_cpu_capability())"
Found = tuple[list[dict[str, Any]], dict[str, Any]]
"""Journal and summary of a search."""


def output(command: list[str], environment: dict[str, str]) -> str:
    """Run a command in a new process, as torch chooses its instructions once; return its output, or exit."""
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode:
        sys.exit(f"a command failed with {ran.returncode}:\n{ran.stderr}")
    return ran.stdout.strip()


def search(arguments: list[str], variables: dict[str, str], folder: Path) -> Found:
    """Run a search as on another processor; return its journal and its summary."""
    environment, wanted = {**os.environ, **variables}, variables.get("ATEN_CPU_CAPABILITY")
    found = output([sys.executable, "-c", CAPABILITY], environment).lower()
    if wanted not in (None, found):
        sys.exit(f"torch uses {found} instead of {wanted}")
    output([sys.executable, "-m", "haq", *SEARCH, *arguments, "--quiet", "--out", str(folder)], environment)
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text(encoding="utf-8").splitlines()]
    return lines, json.loads((folder / "summary.json").read_text(encoding="utf-8"))


def row(found: Found, wanted: Found) -> str:
    """Compare a search with another: cells of a table."""
    (lines, summary), (before, reference) = found, wanted
    pairs = list(zip(lines, before, strict=True))
    same = next((number for number, (a, b) in enumerate(pairs) if _bits(a) != _bits(b)), len(pairs))
    equal = pairs[:same]
    error = max((abs(a["noise"] - b["noise"]) / b["noise"] for a, b in equal), default=0.0)
    images = max((abs(a["accuracy"] - b["accuracy"]) for a, b in equal), default=0.0) * IMAGES
    cells = (
        f"{same} of {len(pairs)}",
        f"{error:.1e}" if error else "0",
        f"{images:.0f}",
        percent(summary["search_accuracy"], digits=2),
        percent(summary["accuracy"], digits=2),
        f"{summary['cost_ratio'] - reference['cost_ratio']:+.4f}",
    )
    return " | ".join(cells)


def main(
    *,
    engines: Annotated[str, typer.Option(help="Engines.")] = "torch,onnxruntime",
    episodes: Annotated[int, typer.Option(help="Episodes of a search.")] = 40,
    seed: Annotated[int, typer.Option(help="Seed of the searches.")] = 0,
) -> None:
    """Search on each processor and print."""
    columns = (
        "engine",
        "processor",
        "first episodes with equal policies",
        "largest relative difference of their output errors",
        "most images in the difference of their accuracies",
        "search accuracy of the result",
        "report accuracy",
        "difference of cost ratios",
    )
    print(f"| {' | '.join(columns)} |\n|{len(columns) * '---|'}")
    with TemporaryDirectory() as name:
        for engine in read_several(engines):
            arguments = ["--engine", engine, "--episodes", str(episodes), "--seed", str(seed)]
            found = {
                processor: search(arguments, variables, Path(name) / f"{engine}-{number}")
                for number, (processor, variables) in enumerate(PROCESSORS.items())
            }
            for processor, each in found.items():
                print(f"| {engine} | {processor} | {row(each, found['this one'])} |", flush=True)
    environment = describe_environment(seed=seed, device="cpu")
    versions = ", ".join(f"{package} {version}" for package, version in environment["packages"].items() if version)
    print(f"\nMade with `python scripts/experiments/{' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}`, seed {seed}, "
          f"one thread, on {environment['processor']}; commit {environment['commit']}, {versions}.")  # fmt: skip


def _bits(line: dict[str, Any]) -> tuple[list[int], list[int]]:
    return line["w_bits"], line["a_bits"]


if __name__ == "__main__":
    typer.run(main)
