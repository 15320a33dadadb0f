"""Compare `--rounding gptq` with `nearest` in a search, at equal time.

Each seed is searched three times at the cost of uniform bits: with rounding to nearest; with GPTQ for as many episodes
as fit into the same processor time, including the time that GPTQ takes before the first episode; and with rounding to
nearest again, stopped early enough to round the winner's weights by GPTQ in the same time. Differences of the winners'
report accuracies are paired by seed. Takes the flags of `haq evaluate` for networks and data:

    python scripts/experiments/compare_gptq_in_search.py --model cifar_resnet20 --weights FILE --data cifar10:DIR
"""

import csv
import io
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from time import process_time
from typing import Annotated, Any

import torch
import typer

from haq.cli.flags import DATA_FLAGS, MODEL_FLAGS, read_several, with_config
from haq.config import SearchConfig, search_config
from haq.evaluation.evaluator import Evaluator
from haq.experiment.preparation import prepare, prepare_network
from haq.experiment.prior.fisher import network_fisher
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.problem import Network
from haq.files import write_atomically
from haq.policy import PolicyBits
from haq.runs.environment import describe_environment
from haq.runs.episode import Episode
from haq.runs.run_folder import RunFolder
from haq.searching.search import begin_session
from haq.searching.session import Session
from haq.settings import Rounding
from haq.studies.comparison.intervals import paired_interval

HARDWARE = "bismo-edge"
NEAREST, AT_THE_END, IN_SEARCH = ARMS = ("nearest", "nearest, winner by gptq", "gptq")
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A network with one rounding method, and everything that its searches share."""

    network: Network
    fisher: LayerLosses
    report: Evaluator
    cpu_s: float
    """Processor seconds before the first episode: calibration, engine and prior."""


@dataclass(frozen=True, slots=True, eq=False)
class Searched:
    """A search, and the processor seconds from loading the network to the end of each episode."""

    session: Session
    cpu_s: list[float]
    folder: "TemporaryDirectory[str]"
    """Folder of the run, whose journal the session reads."""

    def winner(self, within_s: float) -> tuple[int, float, Episode] | None:
        """Return episodes, seconds and winner within a time; None if no episode ended by then."""
        count = sum(each <= within_s for each in self.cpu_s)
        return (count, self.cpu_s[count - 1], self.session.select(count).winner) if count else None


def prepared(config: SearchConfig, rounding: Rounding) -> Prepared:
    """Load, calibrate and estimate sensitivities; opening the report split is not timed."""
    began = process_time()
    network = prepare_network(with_settings(config, rounding=rounding))
    fisher = network_fisher(network)
    cpu_s = process_time() - began
    return Prepared(network, fisher, Evaluator(network.engine, network.task, "report"), cpu_s)


def with_settings(config: SearchConfig, **settings: Any) -> SearchConfig:
    """Return the configuration with some settings replaced."""
    return search_config(**{key: getattr(config, key) for key in config.model_fields_set} | settings)


def search(config: SearchConfig, setup: Prepared, *, within_s: float) -> Searched:
    """Run all episodes, or those that begin within the time."""
    began = process_time() - setup.cpu_s
    session, cpu_s = begin_session(prepare(config, network=setup.network), losses=setup.fisher), []
    folder = TemporaryDirectory()
    session.enter(RunFolder.create(Path(folder.name) / "run", config.model_dump(mode="json"), {}))
    while session.episode_count < config.episodes and process_time() - began < within_s:
        session.run_episode()
        cpu_s.append(process_time() - began)
    return Searched(session, cpu_s, folder)


def seconds_of_rounding(config: SearchConfig, bits: int) -> float:
    """Return the processor seconds that GPTQ takes for one policy: Hessians, and all layers at one width."""
    network = prepare_network(with_settings(config, rounding="gptq", engine="torch"))
    network.quantizers.activation(0, bits)  # calibrates, as a search has done
    began = process_time()
    for layer in range(len(network.priced.layers)):
        network.quantizers.codes(layer, bits)
    return process_time() - began


def rows_of_seed(config: SearchConfig, by_rounding: dict[Rounding, Prepared], *, at_the_end_s: float) -> Iterator[Row]:
    """Yield one row per arm, each within the time that rounding to nearest takes for all episodes."""
    nearest, gptq = by_rounding["nearest"], by_rounding["gptq"]
    searched = search(config, nearest, within_s=float("inf"))
    time_s = searched.cpu_s[-1]
    found = search(with_settings(config, rounding="gptq"), gptq, within_s=time_s)
    for arm, each, within_s, report in (
        (NEAREST, searched, time_s, nearest.report),
        (AT_THE_END, searched, time_s - at_the_end_s, gptq.report),
        (IN_SEARCH, found, time_s, gptq.report),
    ):
        ended = each.winner(within_s)
        if ended is None:
            raise SystemExit(f"{arm}: no episode ends in {time_s:.0f} s; give more --episodes")
        episodes, cpu_s, winner = ended
        found_row = row(config, arm, episodes=episodes, bits=winner.key, report=report)
        yield found_row | {"cpu_s": round(cpu_s + time_s - within_s, 1)}


def row(config: SearchConfig, arm: str, *, episodes: int, bits: PolicyBits, report: Evaluator) -> Row:
    """Return the row of one arm: its winner on the report split."""
    evaluation = report.evaluate(*bits)
    return {
        "objective": config.objective,
        "seed": config.seed,
        "arm": arm,
        "episodes": episodes,
        "accuracy": evaluation.accuracy,
        "divergence": evaluation.divergence,
        "w_bits": " ".join(map(str, bits[0])),
        "a_bits": " ".join(map(str, bits[1])),
    }


def uniform_rows(config: SearchConfig, by_rounding: dict[Rounding, Prepared], bits: int) -> Iterator[Row]:
    """Yield the uniform policy whose cost is the budget, with both rounding methods."""
    for rounding, each in by_rounding.items():
        problem = prepare(config, network=each.network)
        layers = problem.priced.layers
        pairs = [problem.allowed.uniform(layer.tied_to or layer.name, bits) for layer in layers]
        w_bits, a_bits = zip(*pairs, strict=True)
        name = f"uniform {bits} bits, {rounding}"
        yield row(config, name, episodes=0, bits=(w_bits, a_bits), report=each.report) | {"cpu_s": 0.0}


def percents(rows: Iterable[Row], objective: str, arm: str) -> list[float]:
    """Return report accuracies in percent, ordered by seed."""
    chosen = [each for each in rows if (each["objective"], each["arm"]) == (objective, arm)]
    return [100 * each["accuracy"] for each in sorted(chosen, key=lambda each: each["seed"])]


def table(rows: list[Row], *, report_images: int) -> Iterator[str]:
    """Yield a Markdown table of accuracy, episodes and time by arm, and the paired differences."""
    image = 100 / report_images
    yield (
        "| budget | arm | report accuracy, % | by seed | divergence, nats | episodes | processor s | "
        "minus nearest | minus winner by gptq |"
    )
    yield "|---" * 9 + "|"
    for objective, arm in dict.fromkeys((each["objective"], each["arm"]) for each in rows):
        of_arm = [each for each in rows if (each["objective"], each["arm"]) == (objective, arm)]
        found = percents(rows, objective, arm)
        divergence = mean(each["divergence"] for each in of_arm)
        cells = [f"{mean(found):.2f}", ", ".join(f"{each:.2f}" for each in found), f"{divergence:.4f}"]
        if arm in ARMS:
            cells += [_range(each["episodes"] for each in of_arm), f"{mean(each['cpu_s'] for each in of_arm):.0f}"]
            others = {NEAREST: (), AT_THE_END: (NEAREST,), IN_SEARCH: (NEAREST, AT_THE_END)}[arm]
            cells += [_difference(found, percents(rows, objective, other), image) for other in others]
        yield f"| {objective} | {arm} | {' | '.join(cells + [''] * (7 - len(cells)))} |"


def _range(counts: Iterable[int]) -> str:
    each = sorted(set(counts))
    return f"{each[0]}" if len(each) == 1 else f"{each[0]} to {each[-1]}"


def _difference(ours: list[float], theirs: list[float], image: float) -> str:
    each = paired_interval([one - other for one, other in zip(ours, theirs, strict=True)], resolution=image)
    return f"{each.mean:+.2f} ({each.low:+.2f} to {each.high:+.2f})"


def document(config: SearchConfig, rows: list[Row], facts: dict[str, Any]) -> str:
    """Return the Markdown page with the command and versions that made it."""
    packages = describe_environment(seed=0, device="cpu")["packages"]
    return "\n".join(
        [
            "# GPTQ in the search, at equal time",
            "",
            f"{config.model} on {facts['report_images']} report images, in float "
            f"{100 * facts['accuracy_fp32']:.2f} %; searches at the cost of uniform {facts['bits']} bits on "
            f"{HARDWARE}, {facts['search_images']} search images, seeds 0 to {facts['seeds'] - 1}, method "
            f"`{config.agent}`. Before the first episode nearest codes take {facts['nearest_s']:.0f} processor seconds "
            f"and GPTQ {facts['gptq_s']:.0f}, as the prior asks for every layer at every width; rounding one policy by "
            f"GPTQ takes {facts['at_the_end_s']:.0f}. Differences are in points, paired by seed, with 95 % intervals "
            "(Student).",
            "",
            *table(rows, report_images=facts["report_images"]),
            "",
            f"Made with `python {shlex.join(sys.argv)}`; one thread; "
            + ", ".join(f"{name} {version}" for name, version in packages.items() if version)
            + ".",
            "",
        ]
    )


def write(out: Path, config: SearchConfig, rows: list[Row], facts: dict[str, Any]) -> None:
    """Write table and numbers."""
    numbers = io.StringIO()
    writer = csv.DictWriter(numbers, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out.with_suffix(".csv"), numbers.getvalue().encode())
    write_atomically(out.with_suffix(".md"), document(config, rows, facts).encode())


@with_config(*MODEL_FLAGS, *DATA_FLAGS)
def main(
    config: SearchConfig,
    *,
    bits: Annotated[int, typer.Option(help="Uniform bits whose cost is the budget.")] = 3,
    objectives: Annotated[str, typer.Option(help="What the budgets limit.")] = "latency,size",
    episodes: Annotated[int, typer.Option(help="Of nearest codes.")] = 100,
    seeds: Annotated[int, typer.Option(help="Searches of each kind; two at least.")] = 3,
    out: Annotated[Path, typer.Option(help="Without an ending.")] = Path("results/rounding_in_search"),
) -> None:
    """Search, and write the results after every objective."""
    torch.set_num_threads(1)
    config = with_settings(config, hardware=HARDWARE, episodes=episodes)
    at_the_end_s = seconds_of_rounding(config, bits)
    roundings: tuple[Rounding, ...] = ("nearest", "gptq")
    by_rounding = {each: prepared(config, each) for each in roundings}
    nearest, gptq = by_rounding["nearest"], by_rounding["gptq"]
    facts: dict[str, float] = {f"{split}_images": nearest.network.task.size(split) for split in ("search", "report")}
    facts |= {"accuracy_fp32": nearest.report.accuracy_fp32, "bits": bits, "seeds": seeds}
    facts |= {"nearest_s": nearest.cpu_s, "gptq_s": gptq.cpu_s, "at_the_end_s": at_the_end_s}
    print(facts, file=sys.stderr, flush=True)
    rows: list[Row] = []
    for objective in read_several(objectives):
        settings = {"objective": objective, "budget": (f"{bits}bits",)}
        rows += uniform_rows(with_settings(config, **settings), by_rounding, bits)
        for seed in range(seeds):
            settings_of_seed = with_settings(config, **settings, seed=seed)
            rows += rows_of_seed(settings_of_seed, by_rounding, at_the_end_s=at_the_end_s)
            print(rows[-3:], f"{process_time():.0f} processor s", file=sys.stderr, flush=True)
        write(out, config, rows, facts)


if __name__ == "__main__":
    typer.run(main)
