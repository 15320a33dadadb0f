"""Read damaged files of every format, and count those that are refused, accepted, or make a reader fail.

    pip install atheris
    python scripts/experiments/fuzz_files.py --cases 10000 --out results/fuzzing.json
    python scripts/experiments/fuzz_files.py --table --out results/fuzzing.json

Each format has a process of its own, in which atheris (https://github.com/google/atheris) changes the content of
valid files, led by the lines of haq that the changes reach. A reader may return, or raise UserError or DescriptionError
with a printable line; whatever else it raises is a failure. A case above 10 s or 2 GiB ends the process, and is one
too. Contents that fail are kept in --failures.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.io import encode_png

from hardware_sim.layer import Layer

SEED = 1
MAX_BYTES = 4096
ROOT = Path(__file__).parents[2]
AIMET = ROOT / "tests/haq/interchange/aimet"
LAYERS = tuple(Layer(name=name, kind="conv", c_in=1, c_out=1) for name in ("conv1", "conv2", "conv3", "fc"))
TABLE = b"layer,w_bits,a_bits\nconv1,8,8\nconv2,4,float\nconv3,,\nfc,8,8\n"
COSTS = b"layer,w_bits,a_bits,latency_s,energy_j\nconv1,8,8,0.001,0.002\nconv1,4,4,0.0005,0.001\nfc,8,8,0.01,0.02\n"
PIXELS = encode_png(torch.zeros(3, 8, 8, dtype=torch.uint8)).numpy().tobytes()
RULES = b'{"quant_cfg": [{"quantizer_name": "*", "enable": false}, {"quantizer_name": "*w*", "cfg": {"num_bits": 4}}]}'
CFG = b"""[net]
width=32
height=32
channels=3

[convolutional]
batch_normalize=1
filters=8
size=3
stride=2
pad=1
activation=leaky

[convolutional]
filters=18
size=1
stride=1
pad=1
activation=linear

[yolo]
mask=0,1,2
anchors=4,4, 8,8, 16,16
classes=1
num=3
"""
COCO = json.dumps(
    {
        "images": [{"id": n, "file_name": f"{n}.png", "width": 8, "height": 8} for n in range(4)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 1, 4, 4], "area": 16, "iscrowd": 0}],
        "categories": [{"id": 3, "name": "cup"}],
    }
).encode()


@dataclass(frozen=True)
class Format:
    """A format: valid contents to begin with, and a function that reads a file of it."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    suffix: str


def _small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))


def _saved(save: Callable[[Any, Any], None]) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "weights"
            save(_small_model().state_dict(), path)
            return [path.read_bytes()]

    return seeds


def _files(pattern: str) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for path in sorted(ROOT.glob(pattern))]


def _renamed(pattern: str) -> Callable[[], list[bytes]]:
    """Return descriptions under another name, since those of shipped ones are refused."""
    return lambda: [content.replace(b'name = "', b'name = "my-', 1) for content in _files(pattern)()]


def _packed_seed() -> list[bytes]:
    import haq

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        haq.export(ROOT / "results/bismo-edge/policy.json", format="packed", out=path)
        return [path.read_bytes()]


def formats() -> dict[str, Format]:
    """Return the formats by name; readers are imported here, when atheris watches imports."""
    from safetensors.torch import save_file

    from haq.exporters.packed.reading import read_packed
    from haq.interchange.read import read_policy
    from haq.network.models.darknet.building import build_darknet
    from haq.network.weight_files import load_weights
    from haq.policy import load_policy
    from haq.runs.episode import Episode
    from haq.runs.journal import Journal
    from haq.runs.run_folder import RunFolder
    from haq.searching.search import finished
    from haq.tasks.detection.folders import load_coco
    from haq.tasks.language_modelling.text import read_corpus
    from haq.tasks.options import TaskOptions
    from hardware_sim.catalog import load_accelerator
    from hardware_sim.target_catalog import load_target

    def encodings(path: Path) -> object:
        graph = AIMET / "net.onnx" if path.suffix == ".encodings" else None
        return read_policy(path, LAYERS, model="net", graph=graph)

    def text(path: Path) -> object:
        for name in ("train.txt", "valid.txt", "test.txt"):
            path.with_name(name).write_bytes(path.read_bytes())
        return read_corpus(path.parent, level="word")

    def annotations(path: Path) -> object:
        for part in ("train", "val"):
            folder = path.parent / "images" / f"{part}2017"
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(4):
                (folder / f"{number}.png").write_bytes(PIXELS)
            target = path.parent / "annotations" / f"instances_{part}2017.json"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
        return load_coco(f"coco:{path.parent}", None, TaskOptions())

    def summary(path: Path) -> object:
        path.with_name("policy.json").write_bytes((ROOT / run / "policy.json").read_bytes())
        return finished(RunFolder(path.parent))

    run = "results/bismo-edge"
    return {
        "policy": Format(_files(f"{run}/policy.json"), load_policy, "policy.json"),
        "encodings": Format(_files("tests/haq/interchange/aimet/*.encodings"), encodings, "net.encodings"),
        "table of bits": Format(lambda: [TABLE], encodings, "bits.csv"),
        "rules": Format(lambda: [RULES], encodings, "rules.json"),
        "device": Format(_renamed("hardware_sim/devices/*.toml"), load_accelerator, "device.toml"),
        "target": Format(_renamed("hardware_sim/targets/*.toml"), load_target, "target.toml"),
        "cost table": Format(lambda: [COSTS], load_accelerator, "costs.csv"),
        "packed": Format(_packed_seed, read_packed, "packed.safetensors"),
        "journal": Format(
            _files(f"{run}/episodes.jsonl"),
            lambda path: Journal(path, Episode).read(remedy="delete it"),
            "episodes.jsonl",
        ),
        "summary": Format(_files(f"{run}/summary.json"), summary, "summary.json"),
        "checkpoint": Format(
            _saved(torch.save), lambda path: RunFolder(path.parent).load_checkpoint(), "checkpoint.pt"
        ),
        "weights (torch)": Format(_saved(torch.save), lambda path: load_weights(_small_model(), path), "weights.pth"),
        "weights (safetensors)": Format(
            _saved(save_file), lambda path: load_weights(_small_model(), path), "weights.safetensors"
        ),
        "darknet cfg": Format(lambda: [CFG], build_darknet, "net.cfg"),
        "text": Format(lambda: [b"the cat sat on the mat\nand the dog sat\n"], text, "given.txt"),
        "annotations": Format(lambda: [COCO], annotations, "given.json"),
    }


def fuzz(name: str, cases: int, failures: Path) -> None:
    """Read changed files of a format in this process, and print the counts; atheris ends the process."""
    import atheris

    with atheris.instrument_imports(include=["haq", "hardware_sim"]):
        chosen = formats()[name]
        from haq.errors import UserError
        from hardware_sim.description_files import DescriptionError
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        corpus, path = Path(folder) / "corpus", Path(folder) / "work" / chosen.suffix
        corpus.mkdir()
        path.parent.mkdir()
        for number, seed in enumerate(chosen.seeds()):
            (corpus / str(number)).write_bytes(seed)

        def read(content: bytes) -> None:
            path.write_bytes(content)
            try:
                chosen.read(path)
                outcome = "accepted"
            except (UserError, DescriptionError) as error:
                outcome = "refused"
                if not str(error).isprintable():
                    outcome = "failed: a message that is not one printable line"
            except Exception as error:  # noqa: BLE001  failures are what is looked for
                place = traceback.extract_tb(error.__traceback__)[-1]
                outcome = f"failed: {type(error).__name__} in {Path(place.filename).name}:{place.lineno}"
            if outcome.startswith("failed") and outcome not in counts:
                failures.mkdir(parents=True, exist_ok=True)
                (failures / f"{name}-{len(counts)}").write_bytes(content)
            counts[outcome] += 1
            if counts.total() % 100 == 0 or outcome.startswith("failed"):
                print(json.dumps(counts), flush=True)

        largest = max(MAX_BYTES, *(2 * len(seed) for seed in chosen.seeds()))
        flags = [f"-runs={cases}", f"-seed={SEED}", f"-max_len={largest}", "-rss_limit_mb=2048", "-timeout=10"]
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


def main() -> None:
    """Fuzz all formats, or those that are named, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*")
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--failures", type=Path, default=Path("fuzzing-failures"))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        fuzz(options.here, options.cases, options.failures)
        return
    found = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    for name in () if options.table else options.formats or formats():
        command = [sys.executable, __file__, "--here", name, "--cases", str(options.cases)]
        command += ["--out", str(options.out), "--failures", str(options.failures)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
        found[name] = json.loads(lines[-1]) if lines else {}
        if ran.returncode:
            found[name][f"failed: {ran.stderr.strip().splitlines()[-1][:200]}"] = 1
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(name, found[name], flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
