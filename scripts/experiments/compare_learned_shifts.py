"""Compare networks with skewed activations without a shift, with a calibrated and with a learned one.

A small network with SiLU (or another activation) is trained in float for every seed, then fine-tuned at W4A4, W3A3 and
W2A2 with each kind of shift; first and last layer have 8 bits. Either all parameters are trained, or scales and shifts
only. The control is the float network trained further with the same epochs, schedule and teacher. Differences are
paired by seed. Finished runs are kept, unfinished ones are resumed.

    python scripts/experiments/compare_learned_shifts.py --data fashion_mnist:DIR --train-images 12800
"""

import argparse
import csv
import io
import shlex
import sys
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any, cast

import torch
from shift_tables import LEARN, MAX_LEVELS, SHIFTS, Row, accuracies, loss_table, picture, table
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

import haq
from haq.files import write_atomically
from haq.finetuning.finetune import FinetuneResult
from haq.network.layers import trace
from haq.quantization import AdaptiveQuantizer
from haq.quantization.training.batch_norms import reestimate
from haq.quantization.training.initialization import Initializer
from haq.quantization.training.network import TrainableNetwork, start_network
from haq.quantization.training.recipe import LR_FEW_BITS
from haq.reporting.plots import save_figure
from haq.runs.environment import describe_environment
from haq.tasks import load_task
from haq.tasks.classification import ClassificationTask
from haq.tasks.items import StoredSplit

ACTIVATIONS = {"silu": nn.SiLU, "hardswish": nn.Hardswish, "relu": nn.ReLU}
FLOAT_LR = 0.1


class SmallNet(nn.Module):
    """A network of four convolutions with batch norms and one linear layer, for images of any size."""

    def __init__(self, channels: int, classes: int, activation: str) -> None:
        super().__init__()
        widths, strides = (channels, 16, 24, 32, 48), (2, 1, 2, 1)
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
    """Settings that all runs share."""

    data: str
    train_images: int
    activation: str
    bits: tuple[int, ...]
    learn: tuple[str, ...]
    seeds: int
    batch_size: int
    float_epochs: int
    epochs: int
    runs: Path

    @cached_property
    def task(self) -> ClassificationTask:
        """Return the data with only the first train images."""
        task = load_task(self.data)
        assert isinstance(task, ClassificationTask)
        train = cast(Dataset[tuple[Tensor, int]], task.splits["train"].items)
        items = Subset(train, range(self.train_images))
        return replace(task, splits={**task.splits, "train": StoredSplit(items)})

    def run_seed(self, seed: int) -> list[Row]:
        """Train one network in float, then everything that starts from it."""
        folder, model = self.folder(seed), self.trained(seed)
        shared = self.shared(seed)
        rows = [run_row(self.control(model, seed), seed=seed)]
        for learn in self.learn:
            for bits in self.bits:
                for shift in SHIFTS:
                    out = folder / f"{learn}-w{bits}a{bits}-{shift}"
                    settings = {"learn": learn, "shift": shift, **shared}
                    found = haq.finetune(model, self.task, policy=(bits, bits), out=out, **settings)
                    rows.append(run_row(found, seed=seed, learn=learn, bits=bits, shift=shift))
        return rows

    def shared(self, seed: int) -> dict[str, Any]:
        """Return the settings of all runs of a seed."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "seed": seed, "resume": True}

    def control(self, model: SmallNet, seed: int) -> FinetuneResult:
        """Train the float network on as its quantized copies are."""
        out = self.folder(seed) / "float"
        return haq.finetune(model, self.task, policy=(None, None), out=out, lr=LR_FEW_BITS, **self.shared(seed))

    def trained(self, seed: int) -> SmallNet:
        """Return the float network that all runs of a seed start from."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = SmallNet(self.task.example().shape[1], self.task.num_classes, self.activation)
        first = haq.finetune(
            model, self.task, policy=(None, None), out=self.folder(seed) / "float-before", resume=True, seed=seed,
            epochs=self.float_epochs, batch_size=self.batch_size, lr=FLOAT_LR, weight_decay=5e-4, teacher=False,
        )  # fmt: skip
        model.load_state_dict(first.network.get_submodule("model").state_dict())
        return model.eval()

    def folder(self, seed: int) -> Path:
        """Return the folder of the runs of a seed, which is created."""
        folder = self.runs / f"{self.activation}-s{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def run_row(found: FinetuneResult, **which: Any) -> Row:
    """Return the accuracy, and how far the shifts of inner layers' inputs moved."""
    network = found.network
    assert isinstance(network, TrainableNetwork)
    shifts = [
        (abs((each.shift / each.start_scale).item()), bool(each.zero_point != each.start_zero_point))
        for _, each in network.quantizers()
        if each.shift is not None and each.start_scale is not None and each.bits == which.get("bits")
    ]
    return {
        **{"seed": 0, "learn": "all", "bits": None, "shift": "float"},
        **which,
        "accuracy": found.summary.accuracy,
        "learned_shifts": len(shifts),
        "mean_moved_codes": mean(way for way, _ in shifts) if shifts else 0.0,
        "most_moved_codes": max((way for way, _ in shifts), default=0.0),
        "zero_points_moved": sum(moved for _, moved in shifts),
        "seconds": found.summary.seconds,
    }


@torch.no_grad()
def by_levels(plan: Plan, seed: int, bits: int) -> list[Row]:
    """Return the search loss before training, by the number of levels below zero in all inner layers' inputs.

    Scales are the calibrated ones; batch norms are re-estimated on the calibration images.
    """
    task, model = plan.task, plan.trained(seed)
    traced = trace(model, task.example())
    images = [inputs for inputs, _ in task.batches("calibration", batch_size=128)]
    inputs, targets = next(task.batches("search", batch_size=task.size("search")))
    initializer, count = Initializer(model, traced, lambda: images, shift="learned"), len(traced.layers)
    widths = (8, *[bits] * (count - 2), 8)
    rows = []
    for levels in range(min(2**bits - 1, MAX_LEVELS + 1)):
        network = start_network(model, initializer, (widths, widths))
        chosen = []
        for layer in range(1, count - 1):
            each = network.inputs[str(layer)]
            assert isinstance(each, AdaptiveQuantizer)
            assert each.start_scale is not None
            chosen.append(each.start_zero_point.item() - each.grid.q_min)
            zero_point = torch.full_like(each.start_scale, each.grid.q_min + levels)
            each.start_at(each.start_scale, zero_point, signed=each.grid.signed)
        reestimate(network, images)
        row = {"seed": seed, "bits": bits, "levels": levels, "calibrated": mean(chosen)}
        rows.append(row | {"loss": task.loss(network(inputs), targets).item()})
    return rows


def write(options: argparse.Namespace, plan: Plan, rows: list[Row], losses: list[Row]) -> None:
    """Write the tables, their numbers and the plot."""
    data = options.data.partition(":")[0]
    title = f"Gain from shifts: a small {options.activation} network on {data}"
    packages = describe_environment(seed=0, device="cpu")["packages"]
    text = [
        f"# {title}",
        "",
        f"Report accuracy in percent on {plan.task.size('report')} images: mean ± standard deviation over "
        f"{options.seeds} seeds, each with a float network of its own ({options.float_epochs} epochs). "
        f"{options.train_images} train images, first and last layer at 8 bits, {options.epochs} epochs of fine-tuning "
        f"in batches of {options.batch_size} with the defaults of `haq finetune`; the control has W4A4's rate. "
        "Differences are in points, paired by seed, with 95 % intervals (Student). "
        f"Float trained on: {mean(accuracies(rows, shift='float')):.2f} %.",
    ]
    for learn in plan.learn:
        text += ["", f"## {LEARN[learn].capitalize()}", "", *table(rows, plan.bits, learn)]
    text += [
        "",
        "## Before learning",
        "",
        f"Loss on {plan.task.size('search')} search images with so many levels below zero in all inner layers' inputs: "
        "scales as calibrated, batch norms re-estimated on the calibration images.",
        "",
        *loss_table(losses, plan.bits),
        "",
        f"![Accuracies]({options.out.name}.png)",
    ]
    text += ["", f"Made with `python {shlex.join(sys.argv)}`; "]
    text[-1] += ", ".join(f"{name} {version}" for name, version in packages.items() if version) + "."
    numbers = io.StringIO()
    writer = csv.DictWriter(numbers, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out.with_suffix(".md"), ("\n".join(text) + "\n").encode())
    write_atomically(options.out.with_suffix(".csv"), numbers.getvalue().encode())
    save_figure(picture(rows, losses, title), options.out.with_suffix(".png"))


def main() -> None:
    """Run what is missing, then write the tables, their numbers and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="fashion_mnist:DIR or cifar10:DIR")
    parser.add_argument("--activation", choices=sorted(ACTIVATIONS), default="silu")
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3, 2])
    parser.add_argument("--learn", choices=sorted(LEARN), nargs="+", default=list(LEARN))
    parser.add_argument("--seeds", type=int, default=3, help="two at least")
    parser.add_argument("--train-images", type=int, default=12800)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--float-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--runs", type=Path, default=Path("runs/learned_shifts"), help="where the runs lie")
    parser.add_argument("--out", type=Path, default=Path("results/learned_shifts"), help="without an ending")
    options = parser.parse_args()
    options.bits, options.learn = tuple(options.bits), tuple(options.learn)
    plan = Plan(**{field.name: getattr(options, field.name) for field in fields(Plan)})
    rows, losses = list[Row](), list[Row]()
    for seed in range(options.seeds):
        rows += plan.run_seed(seed)
        losses += [row for bits in plan.bits for row in by_levels(plan, seed, bits)]
    write(options, plan, rows, losses)


if __name__ == "__main__":
    main()
