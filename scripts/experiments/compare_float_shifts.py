"""Compare networks with skewed activations with a calibrated zero point and with a learned float offset.

As `compare_learned_shifts.py`, whose networks and runs these are, for several activation functions and with everything
trained: `--shift fixed` and `--shift float`, paired by seed.

    python scripts/experiments/compare_float_shifts.py --data fashion_mnist:DIR
"""

import argparse
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import mean, stdev

import pandas as pd
from compare_learned_shifts import ACTIVATIONS, Plan, run_row
from shift_tables import Row, accuracies

import haq
from haq.files import write_atomically
from haq.runs.environment import describe_environment
from haq.studies.comparison.intervals import paired_interval

SHIFTS = ("fixed", "float")
CONTROL = "control"
"""Name, in the place of a shift, of the float network that is trained on as its quantized copies are."""


def runs_of(plan: Plan, seed: int) -> list[Row]:
    """Train one network in float, then on in float and with each kind of shift."""
    folder, model = plan.folder(seed), plan.trained(seed)
    rows = [run_row(plan.control(model, seed), activation=plan.activation, seed=seed, shift=CONTROL)]
    for bits in plan.bits:
        for shift in SHIFTS:
            out = folder / f"all-w{bits}a{bits}-{shift}"
            found = haq.finetune(model, plan.task, policy=(bits, bits), out=out, shift=shift, **plan.shared(seed))
            rows.append(run_row(found, activation=plan.activation, seed=seed, bits=bits, shift=shift))
    return rows


def table(rows: Iterable[Row]) -> list[str]:
    """Return a Markdown table of accuracies and paired differences."""
    rows = list(rows)
    lines = [
        "| network | bits | float, trained on | fixed zero point | learned offset | offset - fixed | "
        "offset - float | shifts moved by, in codes: mean, most |",
        "|---" * 8 + "|",
    ]
    for activation in dict.fromkeys(row["activation"] for row in rows):
        ours = [row for row in rows if row["activation"] == activation]
        control = accuracies(ours, shift=CONTROL)
        for bits in sorted({row["bits"] for row in ours if row["shift"] != CONTROL}, reverse=True):
            fixed, learned = (accuracies(ours, bits=bits, shift=shift) for shift in SHIFTS)
            cells = [f"{mean(values):.2f} ± {stdev(values):.2f}" for values in (control, fixed, learned)]
            for before in (fixed, control):
                gain = paired_interval([one - other for one, other in zip(learned, before, strict=True)])
                cells.append(f"{gain.mean:+.2f} ({gain.low:+.2f} to {gain.high:+.2f})")
            moved = [row for row in ours if (row["bits"], row["shift"]) == (bits, "float")]
            far = mean(row["mean_moved_codes"] for row in moved), max(row["most_moved_codes"] for row in moved)
            cells.append(f"{far[0]:.2f}, {far[1]:.2f}")
            lines.append(f"| {activation} | W{int(bits)}A{int(bits)} | {' | '.join(cells)} |")
    return lines


def page(options: argparse.Namespace, rows: list[Row]) -> list[str]:
    """Return the lines of the page of results."""
    packages = describe_environment(seed=0, device="cpu")["packages"]
    versions = ", ".join(f"{name} {version}" for name, version in packages.items() if version)
    return [
        f"# Gain from float offsets: small networks on {options.data.partition(':')[0]}",
        "",
        f"Report accuracy in percent: mean ± standard deviation over {options.seeds} seeds, each with a float network "
        f"of its own ({options.float_epochs} epochs). {options.train_images} train images, first and last layer at 8 "
        f"bits, {options.epochs} epochs of fine-tuning in batches of {options.batch_size} with the defaults of "
        "`haq finetune`. Differences are in points, paired by seed, with 95 % intervals (Student).",
        "",
        *table(rows),
        "",
        f"Made with `python {shlex.join(sys.argv)}`; {versions}.",
    ]


def main() -> None:
    """Run what is missing, then write the table and its numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="fashion_mnist:DIR or cifar10:DIR")
    parser.add_argument("--activations", choices=sorted(ACTIVATIONS), nargs="+", default=["silu", "hardswish"])
    parser.add_argument("--bits", type=int, nargs="+", default=[4, 3])
    parser.add_argument("--seeds", type=int, default=5, help="two at least")
    parser.add_argument("--train-images", type=int, default=12800)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--float-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/learned_shifts"), help="where the runs lie")
    parser.add_argument("--out", type=Path, default=Path("results/float_shifts"), help="without an ending")
    options = parser.parse_args()
    rows = list[Row]()
    for activation in options.activations:
        plan = Plan(
            data=options.data,
            train_images=options.train_images,
            activation=activation,
            bits=tuple(options.bits),
            learn=("all",),
            seeds=options.seeds,
            batch_size=options.batch_size,
            float_epochs=options.float_epochs,
            epochs=options.epochs,
            runs=options.runs,
        )
        for seed in range(options.seeds):
            rows += runs_of(plan, seed)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(options.out.with_suffix(".md"), ("\n".join(page(options, rows)) + "\n").encode())
    write_atomically(options.out.with_suffix(".csv"), pd.DataFrame(rows).to_csv(index=False).encode())


if __name__ == "__main__":
    main()
