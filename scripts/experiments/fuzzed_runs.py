"""Folder of a finished search of which one file is damaged: the first byte of the content says which, the rest is its
content."""

import shutil
import tempfile
from functools import cache
from pathlib import Path

from fuzzed_formats import Format
from killed_commands import TINY

DAMAGED = ("config.json", "environment.json", "policy.json", "summary.json", "layers.json", "episodes.jsonl",
           "quantizers.safetensors", "example.safetensors")  # fmt: skip


def run_format() -> Format:
    """Return the format."""
    return Format(_seeds, _read, "damaged")


@cache
def _run() -> Path:
    """Return the folder of a search, which the process leaves in the temporary folder."""
    from haq.__main__ import main

    folder = Path(tempfile.mkdtemp(prefix="fuzzed-")) / "run"
    assert not main(["search", *TINY, "--quiet", "--budget", "0.8", "--episodes", "3", "--out", str(folder)])
    return folder


def _seeds() -> list[bytes]:
    return [bytes([number]) + (_run() / name).read_bytes() for number, name in enumerate(DAMAGED)]


def _read(path: Path) -> None:
    from haq.experiment.artifact import load_artifact
    from haq.runs.run_folder import RunFolder
    from haq.searching.search import finished

    content = path.read_bytes()
    folder = path.with_name("run")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_run(), folder)
    if content:
        (folder / DAMAGED[content[0] % len(DAMAGED)]).write_bytes(content[1:])
    run = RunFolder(folder)
    run.episodes.read(remedy="delete it")
    finished(run)
    artifact = load_artifact(folder)
    _ = artifact.summary, artifact.quantizers, artifact.corrections, artifact.priced
