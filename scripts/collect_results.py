"""The table of `results/README.md`, from the run folders beside it: `collect_results.py [FOLDER]`."""

import sys
from pathlib import Path
from typing import Any

from haq.cache import write_atomically
from haq.pretty import percent, pretty_cost
from haq.run_dir import CONFIG, ENVIRONMENT, RunDir
from haq.searching.running import finished

COST_KEYS = {"latency": "latency_s", "energy": "energy_j", "size": "weight_bytes", "bops": "bops"}
HEAD = """# Results

Runs of the search on the digits network, made with `scripts/search_*.py`, seed 0. Accuracies are of the report split
(540 images, so one image is 0.19 points). The best uniform pair is the best of those that the run's `summary.json`
lists, all within the same budgets, first and last layer at 8 bits. Costs are of the device's whole batch; energies are
estimates.

| run | device | objective | budget | cost of the policy | of 8 bits | policy | best uniform | float |
|---|---|---|---|---|---|---|---|---|
"""
TAIL = """
Each folder holds the run's own files: `config.json` has every setting, `environment.json` versions and processor. The
command of a run is `python scripts/search_NAME.py --out results/RUN`.

One thread (`OMP_NUM_THREADS=1`).

More measurements:

- [networks](networks/README.md): ResNet-20 on CIFAR-10, three targets and three budgets, beside uniform bits.
- [mobilenet_v2](mobilenet_v2/README.md): MobileNet-V2 on ImageNet; what depthwise layers get.
- [methods](methods/README.md): eight search methods side by side on ResNet-20 and a small MobileNet.
- [priors.md](priors.md): sensitivities that were measured, beside those of one backward pass.
- [sweep.md](sweep.md): three devices and five budgets for the evaluations of 1.3 searches, beside 15 searches.
- [rewards.md](rewards.md): accuracy, KL divergence or noise as reward, on few images; the reason for the default.
- [engines.md](engines.md): what an evaluation costs on each engine, and where its time goes.
- [search.md](search.md): policies a second, and what a search does besides evaluating.
- [calibration.md](calibration.md): which calibration keeps most accuracy; the reason for the default.
- [corrections.md](corrections.md): what the corrections are worth, and how few images they take.
- [rounding.md](rounding.md): what GPTQ is worth against rounding to the nearest, and what it takes.
- [rounding_in_search.md](rounding_in_search.md): whether GPTQ pays in the search, at equal time.
- [reconstruction.md](reconstruction.md): what quantizers gain that learn from calibration images.
- [finetuning-cifar.md](finetuning-cifar.md): ResNet-20 fine-tuned at 4, 3 and 2 bits, beside float trained on.
- [policies.md](policies.md): a policy of the search and uniform bits of equal cost, fine-tuned alike.
- [learned_shifts.md](learned_shifts.md): no shift, a fixed and a learned one, with skewed activations.
- [fake_quantize.md](fake_quantize.md): forward and backward of quantizers that learn, beside a fixed one.
- [episode_finetuning.md](episode_finetuning.md): whether a few steps in every episode rank policies better.
- [peers](peers/README.md): bits that other tools choose, with their quantizers and with haq's.
- [kmeans.md](kmeans.md): codebooks, beside scikit-learn's.
- [simulator.md](simulator.md): policies priced a second, and how long tables take.
- [torchvision.md](torchvision.md): layers and MACs found in torchvision's networks.
- [restoration.md](restoration.md): removing a policy leaves every network as it was.

These were made when the default was rounding to the nearest integer, and their scripts round by GPTQ now: `sweep`,
`rewards`, `search`, `policies`.
"""


def row(run: RunDir) -> str:
    """One line of the table."""
    summary: dict[str, Any] = dict(finished(run).summary)
    config = run.read_json(CONFIG) or {}
    objective = summary["objective"]
    best = max(summary["uniform"], key=lambda each: each["accuracy"], default=None)
    uniform = "-" if best is None else f"{percent(best['accuracy'], digits=2)} ({best['w_bits']}/{best['a_bits']})"
    cells = (
        f"[{run.path.name}]({run.path.name}/policy.png)",
        config["hardware"],
        objective,
        percent(summary["budget"][0]["ratio"]),
        pretty_cost(objective, summary["cost"][COST_KEYS[objective]]),
        percent(summary["cost_ratio"]),
        percent(summary["accuracy"], digits=2),
        uniform,
        percent(summary["accuracy_fp32"], digits=2),
    )
    return "| " + " | ".join(cells) + " |\n"


def main(folder: Path) -> None:
    """Write the README of a folder of runs."""
    runs = [RunDir(path.parent) for path in sorted(folder.glob(f"*/{ENVIRONMENT}"))]
    write_atomically(folder / "README.md", (HEAD + "".join(map(row, runs)) + TAIL).encode())


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
