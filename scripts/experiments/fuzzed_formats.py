"""Formats that `fuzz_files.py` damages: for each, valid contents to begin with, and what reads a file of it.

Readers are imported inside functions, which are called when atheris watches imports.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.io import encode_png

from hardware_sim.layer import Layer

ROOT = Path(__file__).parents[2]
RUN = "results/bismo-edge"
AIMET = ROOT / "tests/haq/interchange/aimet"
LAYERS = tuple(Layer(name=name, kind="conv", c_in=1, c_out=1) for name in ("conv1", "conv2", "conv3", "fc"))
TABLE = b"layer,w_bits,a_bits\nconv1,8,8\nconv2,4,float\nconv3,,\nfc,8,8\n"
COSTS = b"layer,w_bits,a_bits,latency_s,energy_j\nconv1,8,8,0.001,0.002\nconv1,4,4,0.0005,0.001\nfc,8,8,0.01,0.02\n"
PIXELS = encode_png(torch.zeros(3, 8, 8, dtype=torch.uint8)).numpy().tobytes()
RULES = b'{"quant_cfg": [{"quantizer_name": "*", "enable": false}, {"quantizer_name": "*w*", "cfg": {"num_bits": 4}}]}'
LABELS = b"0 0.5 0.5 0.25 0.25\n2 0.1 0.9 0.2 0.2\n\n1 0.75 0.25 0.5 0.5\n"
TEXT = b"the cat sat on the mat\nand the dog sat\n"
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
    """A format: valid contents to begin with, a function that reads a file of it, and the name of such a file."""

    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    file_name: str


def formats() -> dict[str, Format]:
    """Return all formats by name."""
    from fuzzed_commands import command_formats
    from fuzzed_runs import run_format

    return {
        **files_of_bits(),
        **descriptions(),
        **files_of_runs(),
        "run folder": run_format(),
        **weights(),
        **data(),
        **command_formats(),
    }


def files_of_bits() -> dict[str, Format]:
    """Return the formats of policies and of other tools' files of bits."""
    from haq.interchange.read import read_policy
    from haq.policy import load_policy

    def bits(path: Path) -> object:
        graph = AIMET / "net.onnx" if path.suffix == ".encodings" else None
        return read_policy(path, LAYERS, model="net", graph=graph)

    return {
        "policy": Format(_files(f"{RUN}/policy.json"), load_policy, "policy.json"),
        "encodings": Format(_files("tests/haq/interchange/aimet/*.encodings"), bits, "net.encodings"),
        "table of bits": Format(lambda: [TABLE], bits, "bits.csv"),
        "rules": Format(lambda: [RULES], bits, "rules.json"),
    }


def descriptions() -> dict[str, Format]:
    """Return the formats of files that describe hardware."""
    from hardware_sim.catalog import load_accelerator
    from hardware_sim.target_catalog import load_target

    return {
        "device": Format(_renamed("hardware_sim/devices/*.toml"), load_accelerator, "device.toml"),
        "target": Format(_renamed("hardware_sim/targets/*.toml"), load_target, "target.toml"),
        "cost table": Format(lambda: [COSTS], load_accelerator, "costs.csv"),
    }


def files_of_runs() -> dict[str, Format]:
    """Return the formats of single files of a run."""
    from haq.runs.episode import Episode
    from haq.runs.journal import Journal
    from haq.runs.run_folder import RunFolder
    from haq.searching.search import finished

    def journal(path: Path) -> object:
        return Journal(path, Episode).read(remedy="delete it")

    def summary(path: Path) -> object:
        path.with_name("policy.json").write_bytes((ROOT / RUN / "policy.json").read_bytes())
        return finished(RunFolder(path.parent))

    def checkpoint(path: Path) -> object:
        return RunFolder(path.parent).load_checkpoint()

    return {
        "journal": Format(_files(f"{RUN}/episodes.jsonl"), journal, "episodes.jsonl"),
        "summary": Format(_files(f"{RUN}/summary.json"), summary, "summary.json"),
        "checkpoint": Format(_saved(torch.save), checkpoint, "checkpoint.pt"),
    }


def weights() -> dict[str, Format]:
    """Return the formats of weights."""
    from safetensors.torch import save_file

    from haq.exporters.packed.reading import read_packed
    from haq.network.weight_files import load_weights

    def plain(path: Path) -> None:
        load_weights(_small_model(), path)

    def darknet(path: Path) -> None:
        load_weights(_darknet_model(), path)

    return {
        "weights (safetensors)": Format(_saved(save_file), plain, "weights.safetensors"),
        "weights (torch)": Format(_saved(torch.save), plain, "weights.pth"),
        "weights (Darknet)": Format(_darknet_seed, darknet, "net.weights"),
        "packed": Format(_packed_seed, read_packed, "packed.safetensors"),
    }


def data() -> dict[str, Format]:
    """Return the formats of networks' descriptions and of data sets."""
    from haq.network.models.darknet.building import build_darknet
    from haq.tasks.detection.folders import load_coco
    from haq.tasks.detection.yolo_labels import read_labels
    from haq.tasks.language_modelling.text import read_corpus
    from haq.tasks.options import TaskOptions

    def text(path: Path) -> object:
        for name in ("train.txt", "valid.txt", "test.txt"):
            path.with_name(name).write_bytes(path.read_bytes())
        return read_corpus(path.parent, level="word")

    def annotations(path: Path) -> object:
        for part in ("train", "val"):
            folder = path.parent / "images" / f"{part}2017"
            if not folder.is_dir():
                folder.mkdir(parents=True)
                for number in range(4):
                    (folder / f"{number}.png").write_bytes(PIXELS)
            target = path.parent / "annotations" / f"instances_{part}2017.json"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
        return load_coco(f"coco:{path.parent}", None, TaskOptions())

    def labels(path: Path) -> object:
        return read_labels(path, (64, 48), num_classes=3)

    return {
        "darknet cfg": Format(lambda: [CFG], build_darknet, "net.cfg"),
        "text": Format(lambda: [TEXT], text, "given.txt"),
        "annotations": Format(lambda: [COCO], annotations, "given.json"),
        "labels (YOLO)": Format(lambda: [LABELS], labels, "1.txt"),
    }


def _small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))


def _darknet_model() -> nn.Module:
    from haq.network.models.darknet.building import build_darknet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.cfg"
        path.write_bytes(CFG)
        return build_darknet(path)


def _darknet_seed() -> list[bytes]:
    from haq.network.darknet_weights import write_darknet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.weights"
        write_darknet(_darknet_model(), path)
        return [path.read_bytes()]


def _packed_seed() -> list[bytes]:
    import haq

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        haq.export(ROOT / RUN / "policy.json", format="packed", out=path)
        return [path.read_bytes()]


def _saved(save: Callable[[dict[str, Any], Path], object]) -> Callable[[], list[bytes]]:
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
