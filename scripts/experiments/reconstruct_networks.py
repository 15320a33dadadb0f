"""Reconstruct the policies that `search_networks.py` found, and uniform bits alike, and compare them with HAQ's.

    python scripts/experiments/reconstruct_networks.py tf_mobilenets:mobilenet_v2 --searched results/mobilenet_v2 \\
        --data DIR --weights DIR

Reads `results.json` of `--searched` and the run folders that it names, which stay as they are; every reconstruction has
a folder under `--runs` and is resumed when the script is started again. Writes reconstructed.md and
reconstructed.json beside `results.json`.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from time import process_time
from typing import Any

import torch
from search_networks import CASES, Job, dearest_within, spoken

import haq
from haq.experiment.preparation import prepare_network
from haq.files import write_atomically
from haq.formatting import percent
from haq.runs.environment import describe_environment
from haq.searching.confidence import Pairs
from haq.searching.paired_answers import paired
from haq.tables import Block, Table, markdown

FOLDERS = ("mobilenet_v1", "mobilenet_v2")
"""Folders in `results` of the searches whose policies are reconstructed."""
HAQ_LOST = {
    ("mobilenet_v2", "bismo-edge"): {"4bits": 4.8, "5bits": 0.9, "6bits": 0.0},
    ("mobilenet_v2", "bismo-cloud"): {"4bits": 4.8, "5bits": 2.4, "6bits": 0.0},
    ("mobilenet_v1_075", "bismo-edge"): {"4bits": 3.4, "5bits": 0.2, "6bits": 0.0},
    ("mobilenet_v1_075", "bismo-cloud"): {"4bits": 5.5, "5bits": 0.9, "6bits": 0.0},
}
"""Points that HAQ's fine-tuned policies lose against 8 bits at the latency of these bits, as published, of MobileNet-V2
and of MobileNet-V1 at full width."""
NARROW = "Their MobileNet-V1 has full width, this one 0.75."
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Cell:
    """Report accuracy of a reconstructed policy, and how it differs from the float network's image by image.

    Attributes:
        accuracy: Fraction of report images classified right.
        accuracy_fp32: The same of the float network.
        pairs: Images that only one of the two classifies right.
        processor_s: Processor seconds of the reconstruction, measurements included; None if it was done before.
    """

    accuracy: float
    accuracy_fp32: float
    pairs: Pairs
    processor_s: float | None


def reconstructed(policy: Path | tuple[int, int], out: Path, **settings: Any) -> Cell:
    """Reconstruct a policy, or resume, and compare it with the float network on the report images."""
    known, began = out.with_name(f"{out.name}.json"), process_time()
    if known.exists():
        found = json.loads(known.read_text(encoding="utf-8"))
        return Cell(**found | {"pairs": Pairs(*found["pairs"])})
    is_new = not out.exists()
    result = haq.reconstruct(policy=policy, out=out, resume=True, **settings)
    taken = process_time() - began if is_new else None
    artifact, bits = haq.load(out), (result.policy.w_bits, result.policy.a_bits)
    network = prepare_network(artifact.config, quantized=artifact.quantized)
    pairs = paired(network.engine, network.task, "report", bits, batch_size=artifact.config.eval_batch)
    cell = Cell(result.summary.accuracy, result.summary.accuracy_fp32, pairs, taken)
    write_atomically(known, json.dumps(asdict(cell)).encode())
    return cell


def lost(pairs: Pairs) -> tuple[float, float, float]:
    """Return points lost against the float network, with the interval of a difference of paired proportions.

    >>> [round(points, 1) for points in lost(Pairs(30, 10, 1000))]
    [2.0, 0.8, 3.2]
    """
    difference = (pairs.lost - pairs.won) / pairs.images
    variance = (pairs.lost + pairs.won) / pairs.images - difference**2
    reach = NormalDist().inv_cdf((1 + CONFIDENCE) / 2) * sqrt(variance / pairs.images)
    return 100 * difference, 100 * (difference - reach), 100 * (difference + reach)


def spoken_loss(pairs: Pairs) -> str:
    """Return points lost as tables show them.

    >>> spoken_loss(Pairs(30, 10, 1000))
    '2.0 (0.8 to 3.2)'
    """
    return "{:.1f} ({:.1f} to {:.1f})".format(*lost(pairs))


def table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return a table with one row per budget."""
    columns = (
        "target", "budget", "cost over 8 bits", "uniform", "searched", "uniform, reconstructed",
        "searched, reconstructed", "points lost, uniform", "points lost, searched", "HAQ, fine-tuned",
    )  # fmt: skip
    cells = tuple(
        (
            row["target"],
            spoken(row["budget"]),
            f"{row['cost_ratio']:.3f}",
            percent(row["uniform"], digits=1),
            percent(row["searched"], digits=1),
            percent(row["uniform_reconstructed"]["accuracy"], digits=1),
            percent(row["searched_reconstructed"]["accuracy"], digits=1),
            spoken_loss(Pairs(*row["uniform_reconstructed"]["pairs"])),
            spoken_loss(Pairs(*row["searched_reconstructed"]["pairs"])),
            _published(row),
        )
        for row in rows
    )
    return Table(columns, cells)


def _published(row: dict[str, Any]) -> str:
    network = row["model"].rpartition(":")[2]
    found = HAQ_LOST.get((network, row["target"]), {}).get(row["budget"])
    return "" if found is None else f"{found:.1f}"


def main() -> None:
    """Reconstruct what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=list(CASES))
    parser.add_argument("--searched", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("runs/reconstructed"))
    parser.add_argument("--budgets", nargs="+", help="budgets to reconstruct, such as 4bits 0.513; all by default")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found, name = [], options.model.rpartition(":")[2]
    for row in json.loads((options.searched / "results.json").read_text(encoding="utf-8")):
        is_chosen = row["model"] == options.model and (options.budgets is None or row["budget"] in options.budgets)
        if not is_chosen or row["target"] == "size":  # 8-bit activations leave little to regain
            continue
        same = dearest_within(row["summary"]["budget"][0]["value"], row["uniform"])
        width, job = same["bits"], Job(options.model, row["target"], options.data, options.weights, options.runs, 1, 0)
        config = job.config(row["budget"])
        given = {key: getattr(config, key) for key in ("model", "weights", "data", *CASES[options.model].settings)}
        folder = options.runs / f"{name}-w{width}a{width}"
        uniform = reconstructed((width, width), folder, **given)
        searched = reconstructed(Path(row["run"]), options.runs / Path(row["run"]).name, model=options.model)
        found.append(
            {
                "model": options.model,
                "target": row["target"],
                "budget": row["budget"],
                "cost_ratio": row["summary"]["cost_ratio"],
                "uniform_bits": [width, width],
                "uniform": same["accuracy"],
                "searched": row["summary"]["accuracy"],
                "uniform_reconstructed": asdict(uniform),
                "searched_reconstructed": asdict(searched),
            }
        )
    write(options.searched, found)


def write(out: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write the table and its rows."""
    first = rows[0]["searched_reconstructed"]
    times = [row[name]["processor_s"] for row in rows for name in ("uniform_reconstructed", "searched_reconstructed")]
    known = [each for each in times if each is not None]
    packages = describe_environment(seed=0, device="cpu")["packages"]
    blocks: list[Block] = [
        "# Reconstructed policies",
        f"Report accuracy in percent on {first['pairs'][2]} images, float {percent(first['accuracy_fp32'], digits=1)}. "
        "Policies of [the searches](README.md) and the dearest uniform bits within the budget, of one width for "
        "weights and activations, each as searched and "
        "after `haq reconstruct` with its defaults: no labels, no trained weights. Points lost against the float "
        "network with 95 % intervals of paired proportions. HAQ's policies were fine-tuned with labels; they lose "
        "against 8 bits, on 50,000 other images." + (f" {NARROW}" if "v1_075" in rows[0]["model"] else ""),
        table(rows),
        f"A reconstruction took {min(known):.0f} to {max(known):.0f} s of one processor, measurements included.",
        f"Made with `python {shlex.join(sys.argv)}`; one thread. "
        f"Versions: {', '.join(f'{name} {version}' for name, version in packages.items() if version)}.",
    ]
    write_atomically(out / "reconstructed.md", markdown(blocks).encode())
    write_atomically(out / "reconstructed.json", json.dumps(rows).encode())


if __name__ == "__main__":
    main()
