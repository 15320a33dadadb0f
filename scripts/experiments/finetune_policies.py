"""Compare searched policies with uniform bits of equal cost after the same fine-tuning.

For every seed and number of bits: a search at the cost of these bits everywhere, then the same fine-tuning of the
policy found and of the uniform bits; the control is the float network trained further alike. Differences are paired by
seed with 95 % intervals; with one seed they are paired by report image. Finished runs are kept when the script is
started again.

    python scripts/experiments/finetune_policies.py --bits 3 --seeds 3 --epochs 10 \\
        --runs runs/policies --out results/policies
"""

import argparse
import csv
import io
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor, nn

import haq
from haq.files import write_atomically
from haq.network.zoo import load_model
from haq.runs.environment import describe_environment
from haq.studies.comparison.intervals import paired_interval
from haq.tasks import load_task
from haq.tasks.base import Task


@dataclass(frozen=True)
class Plan:
    """Settings that all runs share."""

    settings: dict[str, Any]
    """Model, weights, data and device, as in `haq search`."""
    learning: dict[str, Any]
    """Epochs and learning rate."""
    episodes: int
    runs: Path


@dataclass(frozen=True)
class Answer:
    """Result of one fine-tuning."""

    before: float
    """Search accuracy before the first step."""
    accuracy: float
    """Report accuracy at the end."""
    right: Tensor
    """For every report image whether its class has the highest output: bool [image]."""


def tune(plan: Plan, task: Task, policy: Any, *, seed: int, name: str) -> Answer:
    """Fine-tune one policy, or load a finished run."""
    model = load_model(plan.settings["model"], weights=plan.settings["weights"])
    out = plan.runs / f"{name}-s{seed}"
    result = haq.finetune(model, task, policy=policy, out=out, resume=True, seed=seed, **plan.learning)
    return Answer(result.summary.search_accuracy_start, result.summary.accuracy, correct(result.network, task))


@torch.no_grad()
def correct(network: nn.Module, task: Task) -> Tensor:
    """Return for every report image whether it is classified correctly: bool [image]."""
    batches = task.batches("report", batch_size=256)
    return torch.cat([network(inputs).argmax(dim=1) == targets for inputs, targets in batches])


def found_policy(plan: Plan, bits: int, seed: int) -> Path:
    """Search at the cost of uniform bits and return the policy file."""
    out = plan.runs / f"search-{bits}bits-s{seed}"
    names = {name: value for name, value in plan.settings.items() if name != "data"} | {"task": plan.settings["data"]}
    haq.search(**names, budget=f"{bits}bits", episodes=plan.episodes, seed=seed, out=out, resume=True)
    return out / "policy.json"


def row(bits: int | None, kind: str, answers: list[Answer], reference: list[Answer] | None) -> dict[str, Any]:
    """Return means over seeds in percent, and the difference to a reference in points."""
    accuracies = [100 * each.accuracy for each in answers]
    line: dict[str, Any] = {
        "cost of": "-" if bits is None else f"{bits} bits",
        "bits": kind,
        "before": 100 * mean(each.before for each in answers),
        "accuracy": mean(accuracies),
        "spread": stdev(accuracies) if len(accuracies) > 1 else None,
        "difference": None, "low": None, "high": None,
    }  # fmt: skip
    if reference is not None:
        pairs = list(zip(answers, reference, strict=True))
        if len(pairs) > 1:
            differences = [100 * (ours.accuracy - theirs.accuracy) for ours, theirs in pairs]
        else:
            differences = (100 * (pairs[0][0].right.float() - pairs[0][1].right.float())).tolist()
        interval = paired_interval(differences)
        line |= {"difference": interval.mean, "low": interval.low, "high": interval.high}
    return line


def table(lines: list[dict[str, Any]]) -> list[str]:
    """Return the rows as a Markdown table."""
    text = [
        "| cost of | bits | search split before | report split after | against uniform bits |",
        "|---|---|---|---|---|",
    ]
    for line in lines:
        spread = "" if line["spread"] is None else f" ± {line['spread']:.2f}"
        against = "-"
        if line["difference"] is not None:
            against = f"{line['difference']:+.2f} ({line['low']:+.2f} to {line['high']:+.2f})"
        cells = (line["cost of"], line["bits"], f"{line['before']:.2f}", f"{line['accuracy']:.2f}{spread}", against)
        text.append("| " + " | ".join(cells) + " |")
    return text


def write(options: argparse.Namespace, lines: list[dict[str, Any]], images: int) -> None:
    """Write the table and its numbers."""
    packages = describe_environment(seed=0, device="cpu")["packages"]
    over = f"{options.seeds} seeds" if options.seeds > 1 else "images"
    text = [
        f"# Policies and uniform bits fine-tuned alike: {options.model.rpartition(':')[2]}",
        "",
        f"Accuracy in percent, {images} report images; {options.epochs} epochs at learning rate {options.lr:g}, "
        f"{options.seeds} seeds from 0; policies of {options.episodes} evaluations on `{options.hardware}`, "
        f"{options.objective}, at the cost of uniform bits (first and last layer at 8). Differences in points, 95 % "
        f"intervals over {over}.",
        "",
        *table(lines),
        "",
        f"Made with `python {shlex.join(sys.argv)}`; "
        + ", ".join(f"{name} {version}" for name, version in packages.items() if version)
        + ".",
    ]
    numbers = io.StringIO()
    writer = csv.DictWriter(numbers, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(options.out.with_suffix(".md"), ("\n".join(text) + "\n").encode())
    write_atomically(options.out.with_suffix(".csv"), numbers.getvalue().encode())


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="digits_cnn")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--hardware", default="bismo-edge")
    parser.add_argument("--objective", default="latency")
    parser.add_argument("--bits", type=int, nargs="+", default=[3])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--runs", type=Path, default=Path("runs/policies"), help="where the runs lie")
    parser.add_argument("--out", type=Path, default=Path("results/policies"), help="without an ending")
    options = parser.parse_args()
    names = ("model", "weights", "data", "hardware", "objective")
    settings = {name: getattr(options, name) for name in names} | {"weights": options.weights and str(options.weights)}
    plan = Plan(settings, {"epochs": options.epochs, "lr": options.lr}, options.episodes, options.runs)
    options.runs.mkdir(parents=True, exist_ok=True)
    task, seeds = (
        load_task(options.data, model=load_model(options.model, weights=options.weights)),
        range(options.seeds),
    )
    control = [tune(plan, task, (None, None), seed=seed, name="float") for seed in seeds]
    lines = [row(None, "float", control, None)]
    for bits in options.bits:
        uniform = [tune(plan, task, (bits, bits), seed=seed, name=f"uniform-{bits}bits") for seed in seeds]
        found = [
            tune(plan, task, found_policy(plan, bits, seed), seed=seed, name=f"found-{bits}bits") for seed in seeds
        ]
        lines += [row(bits, "uniform", uniform, None), row(bits, "found", found, uniform)]
    write(options, lines, task.size("report"))


if __name__ == "__main__":
    main()
