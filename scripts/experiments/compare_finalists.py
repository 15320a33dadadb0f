"""Compare the reconstructed winner of a search with the best of several of its policies that are all reconstructed.

The candidates of a run are the winner and then the policies of its journal with the least output error on the search
split. Each is reconstructed without labels, and the one of least error on search and selection images together is
chosen; errors on the report split, which no choice sees, are compared with the reconstructed winner's, paired by run.
Each run is one JSON file in --out; a second call computes what is missing and prints the table.

    python scripts/experiments/compare_finalists.py RUN RUN ... --out results/finalists/digits
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from math import exp, log
from pathlib import Path
from statistics import fmean
from time import process_time
from typing import Any, Final

import torch
from rank_after_reconstruction import policy_of
from scipy.stats import spearmanr
from stored_cells import Cell, stored_cell

from haq.config import SearchConfig
from haq.evaluation.evaluator import Evaluator
from haq.experiment.learning_request import learning_request
from haq.experiment.preparation import prepare_network
from haq.experiment.problem import Network
from haq.policy import PolicyBits
from haq.reconstruction.config import reconstruction_config
from haq.reconstruction.learned import learn_policy
from haq.reconstruction.reconstruct import QUANTIZER_SETTINGS
from haq.runs.episode import Episode, distinct
from haq.runs.run_folder import POLICY, RunFolder
from haq.searching.goals import merit
from haq.studies.comparison.intervals import Interval, paired_interval
from haq.tables import Table, markdown
from haq.tasks.base import SplitName

SPLITS: Final[tuple[SplitName, ...]] = ("search", "selection", "report")
CHOOSE_BY = {"divergence": "divergence", "noise": "relative output error", "report": "divergence on the report split"}
"""How a candidate is chosen: by an error on search and selection images; or, as a bound, by what is to be judged."""
Errors = dict[str, dict[str, float]]


def candidates(run: RunFolder, winner: PolicyBits, count: int) -> Iterator[Episode]:
    """Yield the winner's episode, then the best other policies of the journal, the best first."""
    episodes = list(distinct(run.episodes.stream(remedy="make the run again")))
    best_first = sorted((each for each in episodes if each.failure is None), key=merit, reverse=True)
    yield next(each for each in episodes if each.key == winner)
    yield from islice((each for each in best_first if each.key != winner), count - 1)


def errors(network: Network, config: SearchConfig, bits: PolicyBits) -> Errors:
    """Return accuracy, divergence and relative output error of a policy by split, with the number of images."""
    found: Errors = {}
    for split in SPLITS:
        if network.task.size(split):
            evaluator = Evaluator(network.engine, network.task, split, batch_size=config.eval_batch)
            each = evaluator.evaluate(*bits)
            numbers = {"accuracy": each.accuracy, "divergence": each.divergence, "noise": each.noise}
            found[split] = {**numbers, "accuracy_fp32": evaluator.accuracy_fp32, "images": network.task.size(split)}
    return found


def reconstructed(folder: Path, count: int, **learning: Any) -> Cell:
    """Reconstruct the candidates of a run with the settings of its search."""
    began = process_time()
    request = learning_request(
        folder, SearchConfig(), reconstruction_config(**learning), inherited=(*QUANTIZER_SETTINGS, "eval_batch")
    )
    config = request.config.model_copy(update={"engine": "torch"})
    network = prepare_network(config, example=request.example)
    model, task = network.priced.model, network.task
    winner = request.policy_for(network.priced)
    policies = []
    for place, episode in enumerate(candidates(RunFolder(folder), (winner.w_bits, winner.a_bits), count)):
        print(f"  policy {place + 1}", flush=True)
        policy = policy_of(winner, episode)
        started, before = process_time(), errors(network, config, episode.key)
        learned = learn_policy(network, policy, config=request.learning, seed=config.seed)
        final = prepare_network(config, model=model, task=task, example=request.example, quantized=learned)
        policies.append(
            {
                **{name: getattr(episode, name) for name in ("episode", "w_bits", "a_bits", "cost")},
                "before": before,
                "after": errors(final, config, episode.key),
                "processor_seconds": round(process_time() - started, 1),
            }
        )
    return {"policies": policies, "processor_seconds": round(process_time() - began, 1)}


def pooled(found: Errors, name: str) -> float:
    """Return an error on search and selection images together."""
    parts = [found[split] for split in ("search", "selection") if split in found]
    return sum(part[name] * part["images"] for part in parts) / sum(part["images"] for part in parts)


def choice(cell: Cell, count: int, choose_by: str) -> int:
    """Return the place of the chosen one among the first few candidates after reconstruction."""
    policies = [each["after"] for each in cell["policies"][:count]]
    if choose_by == "report":
        found = [after["report"]["divergence"] for after in policies]
    else:
        found = [pooled(after, choose_by) for after in policies]
    return found.index(min(found))


def difference(cell: Cell, place: int, name: str) -> float:
    """Return what a candidate has on the report split less the reconstructed winner's; of errors, the log ratio."""
    chosen, winner = (cell["policies"][each]["after"] for each in (place, 0))
    ours, theirs = chosen["report"][name], winner["report"][name]
    return float(ours - theirs) if name == "accuracy" else log(ours / theirs)


def _percent(found: Interval) -> str:
    mean, low, high = (100 * (exp(value) - 1) for value in (found.mean, found.low, found.high))
    return f"{mean:+.1f} % ({low:+.1f} to {high:+.1f})"


def _points(found: Interval) -> str:
    return f"{100 * found.mean:+.2f} ({100 * found.low:+.2f} to {100 * found.high:+.2f})"


def table(cells: Sequence[Cell]) -> list[str]:
    """Return the lines of the Markdown table: a row for every number of candidates and way to choose."""
    columns = (
        "candidates", "chosen by", "not the winner", "divergence", "relative output error", "points of accuracy",
    )  # fmt: skip
    rows = []
    for count in (2, 4, 8):
        if any(len(cell["policies"]) < count for cell in cells):
            continue
        for choose_by, spoken in CHOOSE_BY.items():
            places = [choice(cell, count, choose_by) for cell in cells]
            divergence, noise, accuracy = (
                paired_interval([difference(cell, place, name) for cell, place in zip(cells, places, strict=True)])
                for name in ("divergence", "noise", "accuracy")
            )
            moved = f"{sum(place > 0 for place in places)} of {len(cells)}"
            rows.append((str(count), spoken, moved, _percent(divergence), _percent(noise), _points(accuracy)))
    return markdown([Table(columns, tuple(rows))]).splitlines()


def rank_agreement(policies: Sequence[Cell]) -> float:
    """Return the rank correlation, after reconstruction, of the divergence that is chosen by with the report's."""
    seen = [pooled(each["after"], "divergence") for each in policies]
    return float(spearmanr(seen, [each["after"]["report"]["divergence"] for each in policies]).statistic)


def print_means(cells: Sequence[Cell]) -> None:
    """Print the winner's mean divergence and accuracy on the report split, and the processor time."""
    winners = [cell["policies"][0] for cell in cells]
    for when in ("before", "after"):
        divergence, accuracy = (
            sum(each[when]["report"][name] for each in winners) / len(winners) for name in ("divergence", "accuracy")
        )
        print(f"winner {when}: divergence {divergence:.4f}, accuracy {100 * accuracy:.2f} %")
    total = sum(cell["processor_seconds"] for cell in cells)
    per_policy = [each["processor_seconds"] for cell in cells for each in cell["policies"]]
    agreement = [rank_agreement(cell["policies"]) for cell in cells]
    print(f"rank correlation of divergence on search and selection images with report: {fmean(agreement):.2f}")
    print(f"{total:.0f} processor seconds, {sum(per_policy) / len(per_policy):.1f} for one policy")


def main() -> None:
    """Reconstruct the candidates of several runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished searches, one for each seed")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--candidates", type=int, default=8, help="policies of a run that are reconstructed; default: 8"
    )
    parser.add_argument("--steps", type=int, default=None, help="steps of a reconstruction; default: that of haq")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    learning = {"steps": options.steps} if options.steps else {}
    cells = []
    for folder in options.runs:
        if not (folder / POLICY).is_file():
            parser.error(f"{folder} holds no {POLICY}; give the folder of a finished search")
        compute = partial(reconstructed, folder, options.candidates, **learning)
        settings = argparse.Namespace(candidates=options.candidates, steps=options.steps)
        cells.append(stored_cell(options.out / f"{folder.name}.json", compute, settings, seed=0))
    if len(cells) > 1:  # intervals take two
        print("\n".join(table(cells)))
    print_means(cells)


if __name__ == "__main__":
    main()
