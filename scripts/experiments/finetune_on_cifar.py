"""Fine-tune ResNet-20 on CIFAR-10 at W4A4, W3A3 and W2A2, beside the float network trained further.

First and last layer have 8 bits. All runs, including the float control, have the same epochs, schedule, teacher and
seed; each width has its default learning rate of `haq finetune`, and the control that of W4A4, unless --lr sets one
for all. Differences to the control are paired by image, with 95 % intervals over the images. Finished runs are kept
and unfinished ones resumed when the script is started again.

    python scripts/experiments/finetune_on_cifar.py --data cifar10:DIR --weights FILE --epochs 4 --workers 2
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
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

import haq
from haq.files import write_atomically
from haq.network.zoo import load_model
from haq.quantization.training.recipe import LR_FEW_BITS
from haq.reporting.plots import save_figure
from haq.runs.environment import describe_environment
from haq.studies.comparison.intervals import paired_interval
from haq.tasks import Task, load_task

WIDTHS: tuple[int | None, ...] = (None, 4, 3, 2)
"""None is the control."""
GOALS = {4: -0.3, 3: -1.0, 2: -3.0}
"""Accepted differences to the control, in points."""


@dataclass(frozen=True)
class Job:
    """Settings of one run."""

    model: str
    data: str
    weights: Path
    bits: int | None
    settings: dict[str, Any]
    folder: Path

    @property
    def name(self) -> str:
        """Return the name of the run and of its row."""
        return "float" if self.bits is None else f"W{self.bits}A{self.bits}"


def run(job: Job) -> tuple[dict[str, Any], Tensor]:
    """Fine-tune, or load a finished run: the summary, and which report images are classified correctly."""
    model = load_model(job.model, weights=job.weights)
    task = load_task(job.data, model=model)
    policy = (job.bits, job.bits)
    settings = job.settings | ({"lr": LR_FEW_BITS} if job.bits is None and job.settings["lr"] is None else {})
    result = haq.finetune(model, task, policy=policy, out=job.folder / job.name, resume=True, **settings)
    return result.summary.model_dump(mode="json"), correct(result.network, task)


@torch.no_grad()
def correct(network: nn.Module, task: Task) -> Tensor:
    """Return for every report image whether it is classified correctly: bool [image]."""
    return torch.cat(
        [network(inputs).argmax(dim=1) == targets for inputs, targets in task.batches("report", batch_size=256)]
    )


def rows(jobs: list[Job], found: list[tuple[dict[str, Any], Tensor]]) -> list[dict[str, Any]]:
    """Return one row per run: accuracies in percent, differences to the control in points."""
    control = found[0][1].float()
    lines = []
    for job, (summary, right) in zip(jobs, found, strict=True):
        line = {
            "bits": job.name,
            "lr": summary["lr"],
            "before": 100 * summary["search_accuracy_start"],
            "accuracy": 100 * summary["accuracy"],
            "difference": None,
            "low": None,
            "high": None,
            "goal": GOALS.get(job.bits or 0),
            "seconds": summary["seconds"],
        }
        if job.bits is not None:
            interval = paired_interval((100 * (right.float() - control)).tolist())
            line |= {"difference": interval.mean, "low": interval.low, "high": interval.high}
        lines.append(line)
    return lines


def table(lines: list[dict[str, Any]]) -> list[str]:
    """Return the rows as a Markdown table."""
    text = [
        "| bits | rate | search split before | report split after | difference to float trained on | goal | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        difference, goal = "-", "-"
        if line["difference"] is not None:
            difference = f"{line['difference']:+.2f} ({line['low']:+.2f} to {line['high']:+.2f})"
            goal = f"{line['goal']:+.1f}"
        cells = (
            line["bits"],
            f"{line['lr']:.3g}",
            f"{line['before']:.2f}",
            f"{line['accuracy']:.2f}",
            difference,
            goal,
        )
        text.append("| " + " | ".join(cells) + f" | {line['seconds'] / 60:.0f} |")
    return text


def picture(lines: list[dict[str, Any]], title: str) -> Figure:
    """Plot the differences to the control."""
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.subplots()
    control, *others = lines
    names = [line["bits"] for line in others]
    errors = [
        [line["difference"] - line["low"] for line in others],
        [line["high"] - line["difference"] for line in others],
    ]
    axes.axhline(0, color="#5c5c5c", linestyle=(0, (4, 2)), label=f"float trained on: {control['accuracy']:.2f} %")
    axes.errorbar(names, [line["difference"] for line in others], yerr=errors, fmt="o", color="#0072B2", capsize=4)
    axes.plot(names, [line["goal"] for line in others], "_", color="#D55E00", markersize=20, label="goal")
    axes.set_ylabel("points to the control")
    axes.set_title(title, loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    return figure


def write(options: argparse.Namespace, lines: list[dict[str, Any]], control: dict[str, Any]) -> None:
    """Write the table, its numbers and the plot; `control` is the summary of the float run."""
    images = control["report_images"]
    packages = describe_environment(seed=options.seed, device="cpu")["packages"]
    text = [
        f"# Fine-tuning {options.model} on CIFAR-10",
        "",
        f"Accuracy in percent on {images} report images ({control['search_images']} search images before learning), "
        f"first and last layer at 8 bits, {options.epochs} epochs, {options.precision}, seed "
        f"{options.seed}. The float network before had {100 * control['accuracy_fp32']:.2f} %. Differences are in "
        "points, paired by image, with 95 % intervals over the images of this one seed.",
        "",
        *table(lines),
        "",
        f"![Differences to the control]({options.out.name}.png)",
        "",
        f"Made with `python {shlex.join(sys.argv)}`; "
        + ", ".join(f"{name} {version}" for name, version in packages.items() if version)
        + ".",
    ]
    numbers = io.StringIO()
    writer = csv.DictWriter(numbers, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    title = f"{options.model}, {options.epochs} epochs, {images} report images, seed {options.seed}"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out.with_suffix(".md"), ("\n".join(text) + "\n").encode())
    write_atomically(options.out.with_suffix(".csv"), numbers.getvalue().encode())
    save_figure(picture(lines, title), options.out.with_suffix(".png"))


def main() -> None:
    """Run what is missing, then write the table, its numbers and the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cifar_resnet20")
    parser.add_argument("--data", required=True, help="cifar10:DIR")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--lr", type=float, help="of all runs; by bits if not given")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/finetuning-cifar"), help="where the runs lie")
    parser.add_argument("--out", type=Path, default=Path("results/finetuning-cifar"), help="without an ending")
    options = parser.parse_args()
    settings = {name: getattr(options, name) for name in ("epochs", "lr", "precision", "seed")}
    jobs = [Job(options.model, options.data, options.weights, bits, settings, options.runs) for bits in WIDTHS]
    options.runs.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(run, jobs))
    write(options, rows(jobs, found), found[0][0])


if __name__ == "__main__":
    main()
