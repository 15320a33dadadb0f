"""Compare searches of the digits that propose one, two or four policies at a time, after equally many evaluations.

Prints Markdown: of the policy that a search would have answered, the accuracy on the report split and the relative
output error on the search split, mean and standard deviation over the seeds, and the difference to the first number of
proposals, paired by seed, with its 95 % interval.

    python scripts/experiments/compare_proposals.py --runs runs/proposals --seeds 5
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev

from haq.config import search_config
from haq.studies.comparison.cell import Cell
from haq.studies.comparison.intervals import paired_interval
from haq.studies.comparison.records import ComparisonPoint


def points(agent: str, proposals: int, options: argparse.Namespace) -> Iterator[tuple[ComparisonPoint, ...]]:
    """Run the searches that are not finished, and yield the points of each seed."""
    for seed in range(options.seeds):
        config = search_config(
            agent=agent, proposals=proposals, seed=seed, budget=options.budget, episodes=max(options.at)
        )
        cell = Cell(config, options.runs / f"{agent}-{proposals}-s{seed}", tuple(options.at))
        cell.run()
        found = cell.points()
        assert found is not None, "the cell was run"
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs/proposals"))
    parser.add_argument("--agents", nargs="+", default=["ddpg", "evolution"])
    parser.add_argument("--proposals", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--budget", default="3bits")
    parser.add_argument("--at", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    print("| agent | evaluations | proposals | report accuracy | output error | accuracy, difference in points |")
    print("|---|---|---|---|---|---|")
    for agent in options.agents:
        runs = {count: list(points(agent, count, options)) for count in options.proposals}
        single = runs[options.proposals[0]]
        for number, evaluations in enumerate(options.at):
            for count, seeds in runs.items():
                accuracy = [100 * (each[number].accuracy or 0.0) for each in seeds]
                noise = [each[number].noise or 0.0 for each in seeds]
                before = [100 * (each[number].accuracy or 0.0) for each in single]
                of_seeds = [a - b for a, b in zip(accuracy, before, strict=True)]
                found = paired_interval(of_seeds, resolution=100 / seeds[0][number].report_images)
                shown = "" if seeds is single else f"{found.mean:+.2f} ({found.low:+.2f} to {found.high:+.2f})"
                print(
                    f"| {agent} | {evaluations} | {count} | {mean(accuracy):.2f} ± {stdev(accuracy):.2f} % | "
                    f"{mean(noise):.4f} ± {stdev(noise):.4f} | {shown} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
