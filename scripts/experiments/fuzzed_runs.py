"""Folder of a finished search of which one file is damaged: what is damaged is written as its name, a line break and
its content. A changed name damages nothing, so that the folder is read without this file."""

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
    return [name.encode() + b"\n" + (_run() / name).read_bytes() for name in DAMAGED if (_run() / name).is_file()]


def _read(path: Path) -> None:
    from haq.experiment.artifact import load_artifact
    from haq.runs.run_folder import RunFolder
    from haq.searching.search import finished

    head, _, content = path.read_bytes().partition(b"\n")
    folder = path.with_name("run")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(_run(), folder)
    name = head.decode(errors="replace")
    if name in DAMAGED:
        (folder / name).write_bytes(content)
    run = RunFolder(folder)
    run.episodes.read(remedy="delete it")
    finished(run)
    artifact = load_artifact(folder)
    _ = artifact.summary, artifact.quantizers, artifact.corrections, artifact.priced
