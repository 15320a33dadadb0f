"""What a shift is worth to a network whose activations are skewed: none, fixed by calibration, or learned.

A small network with SiLU (or another activation) is trained in float for every seed, then fine-tuned at W4A4, W3A3 and
W2A2 with each kind of shift; first and last layer have 8 bits. The control is the float network trained on with the
same epochs, schedule and teacher. Differences are paired by seed. Finished runs are kept, others are gone on with.

    python scripts/compare_learned_shifts.py --data fashion_mnist:DIR --workers 2
"""

import argparse
import csv
import io
import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import haq
from haq.cache import write_atomically
from haq.comparing.intervals import paired_interval
from haq.environment import describe_environment
from haq.finetuning.network import TrainableNetwork
from haq.plots import save_figure
from haq.tasks import load_task

ACTIVATIONS = {"silu": nn.SiLU, "hardswish": nn.Hardswish, "relu": nn.ReLU}
SHIFTS = ("none", "fixed", "learned")
COLOURS = ("#5c5c5c", "#E69F00", "#0072B2")
FLOAT_LR = 0.1


class SmallNet(nn.Module):
    """Five convolutions with batch norms, and a linear layer; images of any size."""

    def __init__(self, channels: int, classes: int, activation: str) -> None:
        super().__init__()
        widths, strides = (channels, 16, 32, 48, 48, 64), (1, 2, 1, 2, 1)
        layers: list[nn.Module] = []
        for c_in, c_out, stride in zip(widths, widths[1:], strides, strict=False):
            conv = nn.Conv2d(c_in, c_out, 3, stride, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(c_out), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.layers(x))
        return scores


@dataclass(frozen=True)
class Plan:
    """What all runs share."""

    data: str
    activation: str
    bits: tuple[int, ...]
    float_epochs: int
    epochs: int
    learning: dict[str, Any]
    """Optimizer and rates of fine-tuning and control."""
    precision: str
    folder: Path


def run_seed(plan: Plan, seed: int) -> list[dict[str, Any]]:
    """Train one network in float, then all that starts from it; report accuracies."""
    task = load_task(plan.data)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SmallNet(task.example().shape[1], task.num_classes, plan.activation)
    folder, shared = plan.folder / f"{plan.activation}-s{seed}", {"seed": seed, "precision": plan.precision}
    folder.mkdir(parents=True, exist_ok=True)
    trained = haq.finetune(
        model, task, policy=(None, None), out=folder / "float-first", resume=True,
        epochs=plan.float_epochs, lr=FLOAT_LR, weight_decay=5e-4, teacher=False, **shared,
    )  # fmt: skip
    model.load_state_dict(trained.network.get_submodule("model").state_dict())
    shared |= {"epochs": plan.epochs, **plan.learning}
    control = haq.finetune(model, task, policy=(None, None), out=folder / "float", resume=True, **shared)
    rows = [{"seed": seed, "bits": None, "shift": "float", "accuracy": control.summary["accuracy"], "moved": 0}]
    for bits in plan.bits:
        for shift in SHIFTS:
            out = folder / f"w{bits}a{bits}-{shift}"
            found = haq.finetune(model, task, policy=(bits, bits), shift=shift, out=out, resume=True, **shared)
            accuracy, moved = found.summary["accuracy"], moved_zero_points(found.network)
            rows.append({"seed": seed, "bits": bits, "shift": shift, "accuracy": accuracy, "moved": moved})
    return rows


def moved_zero_points(network: nn.Module) -> int:
    """How many inputs ended at another zero point than they started at: 0 means that learning a shift changed none."""
    assert isinstance(network, TrainableNetwork)
    inputs = [quantizer for name, quantizer in network.quantizers() if name.endswith(".input")]
    return sum(bool(each.zero_point != each.start_zero_point) for each in inputs)


def accuracies(rows: list[dict[str, Any]], bits: int | None, shift: str) -> list[float]:
    """In percent, by seed."""
    chosen = [row for row in rows if (row["bits"], row["shift"]) == (bits, shift)]
    return [100 * row["accuracy"] for row in sorted(chosen, key=lambda row: row["seed"])]


def table(rows: list[dict[str, Any]], bits: tuple[int, ...]) -> list[str]:
    """Markdown: accuracies by kind of shift, what learning the shift is worth, and the distance to the control."""
    control = accuracies(rows, None, "float")
    lines = [
        f"| bits | {' | '.join(f'{shift} shift' for shift in SHIFTS)} | learned - none | learned - fixed | "
        "learned - float trained on |",
        "|---" * (len(SHIFTS) + 4) + "|",
    ]
    for width in bits:
        found = {shift: accuracies(rows, width, shift) for shift in SHIFTS}
        cells = [f"{mean(values):.2f} ± {stdev(values):.2f}" for values in found.values()]
        for other in (found["none"], found["fixed"], control):
            each = paired_interval([ours - theirs for ours, theirs in zip(found["learned"], other, strict=True)])
            cells.append(f"{each.mean:+.2f} ({each.low:+.2f} to {each.high:+.2f})")
        lines.append(f"| W{width}A{width} | " + " | ".join(cells) + " |")
    return lines


def picture(rows: list[dict[str, Any]], bits: tuple[int, ...], title: str) -> Figure:
    """Every seed a point, means as bars."""
    figure = Figure(figsize=(5.5, 3.2), layout="constrained")
    axes = figure.subplots()
    axes.axhline(
        mean(accuracies(rows, None, "float")), color="#1a1a1a", linestyle=(0, (4, 2)), label="float trained on"
    )
    for number, (shift, colour) in enumerate(zip(SHIFTS, COLOURS, strict=True)):
        places = [place + 0.25 * (number - 1) for place in range(len(bits))]
        found = [accuracies(rows, width, shift) for width in bits]
        axes.bar(places, [mean(values) for values in found], 0.22, color=colour, alpha=0.6, label=f"{shift} shift")
        for place, values in zip(places, found, strict=True):
            axes.plot([place] * len(values), values, ".", color=colour)
    lowest = min(100 * row["accuracy"] for row in rows)
    axes.set_ylim(max(0.0, lowest - 2), None)
    axes.set_xticks(range(len(bits)), [f"W{width}A{width}" for width in bits])
    axes.set_ylabel("report accuracy, %")
    axes.set_title(title, loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=7, loc="lower left")
    return figure


def write(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """The table with what it was made of, its numbers and the picture."""
    data, bits = options.data.partition(":")[0], tuple(options.bits)
    images = load_task(options.data).size("report")
    moved = sum(row["moved"] for row in rows if row["shift"] == "learned")
    packages = describe_environment(seed=0, device="cpu")["packages"]
    text = [
        f"# What a shift is worth: a small {options.activation} network on {data}",
        "",
        f"Report accuracy in percent on {images} images: mean ± standard deviation over "
        f"{options.seeds} seeds, each with a float network of its own ({options.float_epochs} epochs). First and last "
        f"layer at 8 bits, {options.epochs} epochs of fine-tuning, {options.optimizer}, rates {options.lr:g} and "
        f"{options.scale_lr:g} (scales and shifts), {options.precision}. Zero points that learning moved, over all "
        f"seeds: {moved}. Differences are in points, paired by seed, with 95 % intervals (Student). Float trained on: "
        f"{mean(accuracies(rows, None, 'float')):.2f} %.",
        "",
        *table(rows, bits),
        "",
        f"![Accuracy by kind of shift]({options.out.name}.png)",
        "",
        f"Made with `python {shlex.join(sys.argv)}`; "
        + ", ".join(f"{name} {version}" for name, version in packages.items() if version)
        + ".",
    ]
    numbers = io.StringIO()
    writer = csv.DictWriter(numbers, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    title = f"Small {options.activation} network on {data}, {options.epochs} epochs, {options.seeds} seeds"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out.with_suffix(".md"), ("\n".join(text) + "\n").encode())
    write_atomically(options.out.with_suffix(".csv"), numbers.getvalue().encode())
    save_figure(picture(rows, bits, title), options.out.with_suffix(".png"))


def main() -> None:
    """Run what is missing, then write the table, its numbers and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="fashion_mnist:DIR or cifar10:DIR")
    parser.add_argument("--activation", choices=sorted(ACTIVATIONS), default="silu")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3, 2])
    parser.add_argument("--seeds", type=int, default=3, help="two at least")
    parser.add_argument("--float-epochs", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="adamw", help="sgd hardly moves a shift")
    parser.add_argument("--lr", type=float, default=0.001)
    parser.add_argument("--scale-lr", type=float, default=0.01)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/finetuning-shifts"), help="where the runs lie")
    parser.add_argument("--out", type=Path, default=Path("results/finetuning-shifts"), help="without an ending")
    options = parser.parse_args()
    bits = tuple(options.bits)
    learning = {"optimizer": options.optimizer, "lr": options.lr, "scale_lr": options.scale_lr}
    plan = Plan(
        options.data, options.activation, bits, options.float_epochs, options.epochs, learning, options.precision,
        options.runs,
    )  # fmt: skip
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        found = pool.map(run_seed, [plan] * options.seeds, range(options.seeds))
        rows = [row for each in found for row in each]
    write(options, rows)


if __name__ == "__main__":
    main()
