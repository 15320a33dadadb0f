"""Compare the order of policies before and after reconstruction: must a search reconstruct in order to choose?

Policies are taken from the journal of a finished search, at equal distances in the order of their relative output error
on the search split, the best one among them, and reconstructed without labels. Each result is one JSON file in --out; a
second call computes what is missing and prints the table. What is known before (errors on the search split, before or
after reconstruction) is compared with what counts: divergence and accuracy on the report split after it.

    python scripts/experiments/rank_after_reconstruction.py RUN --out results/reconstruction_ranks/digits
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr
from stored_cells import Cell, stored_cell

import haq
from haq.config import SearchConfig
from haq.experiment.policy_source import read_run_settings
from haq.policy import Policy, load_policy
from haq.runs.episode import Episode
from haq.runs.run_folder import RunFolder

KNOWN = ("noise", "search_divergence", "reconstructed_search_divergence", "reconstructed_search_accuracy")
"""Values by which a search can choose; more is better of the last one."""
INHERITED = (
    "hardware", "seed", "search_from", "search_images", "report_images", "calibration_images",
    "split_seed", "normalize", "resize", "crop", "eval_batch", "calibration", "zero_points", "rounding", "corrections",
)  # fmt: skip
"""Settings that reconstructions take from the search, beside network, weights and data."""


def spread(run: RunFolder, count: int) -> list[Episode]:
    """Return different episodes of a run at equal distances in the order of their errors."""
    best_first = sorted(run.episodes.stream(remedy="make the run again"), key=lambda episode: episode.noise)
    different = list({(episode.w_bits, episode.a_bits): episode for episode in reversed(best_first)}.values())[::-1]
    chosen = np.linspace(0, len(different) - 1, min(count, len(different))).round().astype(int)
    return [different[place] for place in chosen]


def policy_of(template: Policy, episode: Episode) -> Policy:
    """Return the policy of an episode."""
    layers = zip(template.layers, episode.w_bits, episode.a_bits, strict=True)
    found = [layer.model_copy(update={"w_bits": w, "a_bits": a}) for layer, w, a in layers]
    return template.model_copy(update={"layers": tuple(found), "accuracy": {}})


def reconstructed(template: Policy, episode: Episode, config: SearchConfig, **learning: Any) -> Cell:
    """Reconstruct the policy of an episode with the settings of its search."""
    policy, settings = policy_of(template, episode), config.model_dump(include=set(INHERITED))
    given = {**settings, "weights": config.weights, **learning}
    summary = haq.reconstruct(config.model, config.data, policy=policy, **given).summary
    return {
        "w_bits": episode.w_bits,
        "a_bits": episode.a_bits,
        "noise": episode.noise,
        "search_divergence": summary.search_divergence_start,
        "search_accuracy": summary.search_accuracy_start,
        "reconstructed_search_divergence": summary.search_divergence,
        "reconstructed_search_accuracy": summary.search_accuracy,
        "reconstructed_divergence": summary.divergence,
        "reconstructed_accuracy": summary.accuracy,
        "accuracy_fp32": summary.accuracy_fp32,
    }


def print_table(cells: Sequence[Cell]) -> None:
    """Print rank correlations, and what choosing by each value gets."""
    numbers = (*KNOWN, "reconstructed_divergence", "reconstructed_accuracy")
    columns = {name: np.array([cell[name] for cell in cells], dtype=float) for name in numbers}
    best = columns["reconstructed_accuracy"].max()
    print("| choose by | rank correlation with divergence after | with accuracy after | accuracy of the choice |")
    print("|---|---|---|---|")
    for name in KNOWN:
        value = columns[name] if not name.endswith("accuracy") else -columns[name]
        of_divergence = spearmanr(value, columns["reconstructed_divergence"]).statistic
        of_accuracy = spearmanr(value, -columns["reconstructed_accuracy"]).statistic
        chosen = columns["reconstructed_accuracy"][value.argmin()]
        print(f"| {name} | {of_divergence:.2f} | {of_accuracy:.2f} | {100 * chosen:.2f} % |")
    scores = (
        f"the best of them after reconstruction has {100 * best:.2f} %, float {100 * cells[0]['accuracy_fp32']:.2f} %"
    )
    print(f"\n{len(cells)} policies; {scores}")


def main() -> None:
    """Reconstruct the policies of a run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished search")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--policies", type=int, default=20)
    parser.add_argument("--steps", type=int, default=None, help="steps of a reconstruction; default: that of haq")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    run = read_run_settings(options.run)
    if run is None:
        parser.error(f"{options.run} holds no config.json; give the folder of a finished search")
    learning = {"steps": options.steps} if options.steps else {}
    template = load_policy(options.run / "policy.json")
    cells = []
    for place, episode in enumerate(spread(RunFolder(options.run), options.policies)):
        compute = partial(reconstructed, template, episode, run.config, **learning)
        cells.append(stored_cell(options.out / f"{place:02d}.json", compute, options, seed=run.config.seed))
    print_table(cells)


if __name__ == "__main__":
    main()
