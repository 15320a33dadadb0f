"""Test whether a few fine-tuning steps in every episode rank policies better than none, at equal time.

Random policies within a budget are scored on the search split as a search would score them: with corrections only, and
after a few steps in which either scales and shifts or all parameters are trained. The reference is the report split
after full fine-tuning, over several seeds. Rank correlations (Spearman) have bootstrap intervals over the policies. To
compare at equal time, each score selects the best of as many policies as it can evaluate in that time. Takes the flags
of `haq evaluate` for networks and data:

    python scripts/experiments/compare_episode_finetuning.py
"""

import csv
import io
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import Annotated, Any, get_args

import numpy as np
import torch
import typer
from matplotlib.figure import Figure
from rank_agreement import FloatArray, expected_choice, interval, reliability
from torch import nn

from agents import RandomSearch
from envs.bit_allocation import BitAllocationEnv
from haq.cli.flags import DATA_FLAGS, MODEL_FLAGS, read_several, with_config
from haq.config import SearchConfig, search_config
from haq.evaluation.engines.episode_finetuning import EPISODE_BATCH
from haq.evaluation.evaluator import Evaluator
from haq.experiment.inputs import Inputs
from haq.experiment.learning_request import LearningRequest
from haq.experiment.preparation import prepare, prepare_network
from haq.experiment.problem import Network, Problem
from haq.files import write_atomically
from haq.finetuning.finetune import finetune_configured
from haq.layer_bits import LayerBits
from haq.policy import Policy, PolicyBits
from haq.quantization.training.config import FinetuneConfig, Learning, finetune_config
from haq.reporting.plots import save_figure
from haq.runs.environment import describe_environment
from haq.tasks.base import Task

COLOURS = ("#1a1a1a", "#56B4E9", "#0072B2", "#E69F00", "#D55E00")


@dataclass(frozen=True, slots=True, eq=False)
class Score:
    """Scores of all policies on the search split (higher is better), and the time per policy."""

    name: str
    accuracy: FloatArray
    closeness: FloatArray
    cpu_s: float
    """Median processor seconds per policy; the first policies also compute what all share."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Results of all policies after full fine-tuning, [policy, seed]; higher is better."""

    accuracy: FloatArray
    likelihood: FloatArray
    """Minus the report loss; it separates policies of nearly equal accuracy."""
    cpu_s: float
    """Median processor seconds per policy and seed."""

    @property
    def means(self) -> tuple[FloatArray, FloatArray]:
        """Return the means over seeds: accuracy and likelihood."""
        return self.accuracy.mean(axis=1), self.likelihood.mean(axis=1)


def with_settings(config: SearchConfig, **settings: Any) -> SearchConfig:
    """Return the configuration with some settings replaced."""
    return search_config(**{key: getattr(config, key) for key in config.model_fields_set} | settings)


def draw_policies(problem: Problem, count: int) -> list[PolicyBits]:
    """Draw distinct random policies within the budget."""
    priced = problem.priced
    env = BitAllocationEnv(priced.layers, priced.table, problem.limits, lambda _: 0.0, allowed=problem.allowed)
    agent, found = RandomSearch(seed=0), dict[PolicyBits, None]()
    while len(found) < count:
        walked = env.rollouts.run(lambda observed: np.array([agent.act(observed[0])]))
        w_bits, a_bits = env.choices.expand(walked.bits[0]).T.tolist()
        found[tuple(w_bits), tuple(a_bits)] = None
    return list(found)


def scored(name: str, network: Network, policies: Sequence[PolicyBits], *, batch: int) -> Score:
    """Evaluate all policies on the search split."""
    search = Evaluator(network.engine, network.task, "search", batch_size=batch)
    seen = []
    for bits in policies:
        began = process_time()
        found = search.evaluate(*bits)
        seen.append((found.accuracy, found.divergence, process_time() - began))
    accuracy, divergence, cpu_s = np.array(seen).T
    print(f"{name}: {np.median(cpu_s):.2f} processor s a policy", file=sys.stderr, flush=True)
    return Score(name, accuracy, -divergence, float(np.median(cpu_s)))


def scores(config: SearchConfig, network: Network, policies: Sequence[PolicyBits], steps: Sequence[int]) -> list[Score]:
    """Score the policies without fine-tuning, and with every number of steps of either kind."""
    found, learning = [scored("none", network, policies, batch=config.eval_batch)], get_args(Learning)
    for kind, count in ((kind, count) for kind in sorted(learning, reverse=True) for count in steps):
        settings = with_settings(config, episode_finetune_steps=count, episode_finetune=kind)
        tuning = prepare_network(settings, model=network.priced.model, task=network.task)
        found.append(scored(f"{count} steps, {kind}", tuning, policies, batch=config.eval_batch))
    return found


def fully_finetuned(
    config: SearchConfig, network: Network, policies: Sequence[PolicyBits], learning: FinetuneConfig, *, runs: Path
) -> tuple[FloatArray, float]:
    """Fine-tune all policies; return accuracy and likelihood [policy, 2], and the processor seconds of one."""
    layers, inputs = network.priced.layers, Inputs(network.priced.model, network.task)
    reached, seconds = [], []
    for number, (w_bits, a_bits) in enumerate(policies):
        began, pairs = process_time(), zip(layers, w_bits, a_bits, strict=True)
        bits = tuple(LayerBits(name=layer.name, kind=layer.kind, w_bits=w, a_bits=a) for layer, w, a in pairs)
        policy = Policy(model=network.priced.name, hardware=None, objective=None, layers=bits)
        folder = runs / f"{number}-s{config.seed}"
        found = finetune_configured(LearningRequest(config, learning, policy), folder, inputs=inputs, resume=True)
        seconds.append(process_time() - began)
        loss = report_loss(found.network, network.task, batch=config.eval_batch)
        reached.append((found.summary.accuracy, -loss))
        print(f"{folder.name}: {reached[-1]}, {process_time():.0f} processor s", file=sys.stderr, flush=True)
    return np.array(reached), float(np.median(seconds))


@torch.no_grad()
def report_loss(network: nn.Module, task: Task, *, batch: int) -> float:
    """Return the mean loss over the report split."""
    batches = task.batches("report", batch_size=batch)
    total = sum(task.loss(network(inputs), targets).item() * len(inputs) for inputs, targets in batches)
    return total / task.size("report")


def correlation_table(found: Sequence[Score], truth: Truth) -> Iterator[str]:
    """Yield a Markdown table of the rank correlations of every score, and their differences to the default."""
    yield "| fine-tuning | score | processor s | with accuracy | minus default | with likelihood | minus default |"
    yield "|---" * 7 + "|"
    default = found[0].closeness
    for each in found:
        for kind, score in (("accuracy", each.accuracy), ("closeness", each.closeness)):
            cells = []
            for of in truth.means:
                cells.append("{:.2f} ({:.2f} to {:.2f})".format(*interval(of, score)))
                more = interval(of, score, default)
                cells.append("" if score is default else "{:+.2f} ({:+.2f} to {:+.2f})".format(*more))
            yield f"| {each.name} | {kind} | {each.cpu_s:.2f} | {' | '.join(cells)} |"


def choices_in_time(score: Score, times_s: Sequence[float], truth: FloatArray) -> Iterator[tuple[int, float]]:
    """Yield, for each time, how many policies can be scored and the expected result of the best-scored one."""
    for time_s in times_s:
        count = min(int(time_s / score.cpu_s + 1e-9), len(truth))
        yield count, expected_choice(score.closeness, truth, count) if count else float("nan")


def choice_table(found: Sequence[Score], truth: Truth) -> Iterator[str]:
    """Yield a Markdown table of report accuracy and loss of the policy that each score selects, by time."""
    accuracy, likelihood = truth.means
    times_s = [found[0].cpu_s * len(accuracy) / 4]
    while times_s[-1] < max(each.cpu_s for each in found) * len(accuracy):
        times_s.append(4 * times_s[-1])
    yield "| fine-tuning | " + " | ".join(f"{time_s:.1f} s" for time_s in times_s) + " |"
    yield "|---" * (len(times_s) + 1) + "|"
    for each in found:
        chosen = zip(*(choices_in_time(each, times_s, of) for of in (accuracy, likelihood)), strict=True)
        cells = [
            f"{100 * share:.2f} %, {-loss:.3f} ({count})" if count else "-" for (count, share), (_, loss) in chosen
        ]
        yield f"| {each.name} | {' | '.join(cells)} |"


def picture(found: Sequence[Score], truth: Truth) -> Figure:
    """Plot the loss of the selected policy by processor seconds; a line ends where all policies are scored."""
    figure, loss = Figure(figsize=(6.0, 3.4), layout="constrained"), -truth.means[1]
    axes = figure.subplots()
    for each, colour in zip(found, COLOURS, strict=False):
        counts = range(1, len(loss) + 1)
        reached = [expected_choice(each.closeness, loss, count) for count in counts]
        axes.plot([each.cpu_s * count for count in counts], reached, color=colour, marker=".", label=each.name)
    axes.axhline(loss.min(), color="#5c5c5c", linestyle=(0, (4, 2)), linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("processor seconds")
    axes.set_ylabel("report loss after full fine-tuning, nats")
    axes.set_title("Best-ranked policy by time; dashed: the best of all", loc="left", fontsize=9)
    axes.legend(frameon=False, fontsize=7, loc="upper right", title="in every episode", title_fontsize=7)
    return figure


def facts(config: SearchConfig, network: Network, truth: Truth, learning: FinetuneConfig, budget: str) -> str:
    """Describe what was measured, and the reliability of the reference."""
    accuracy, seeds = 100 * truth.means[0], truth.accuracy.shape[1]
    size = network.task.size
    return (
        f"{config.model}, {len(accuracy)} random policies within the budget {budget} on {config.hardware} "
        f"({config.objective}); scores from {size('search')} search images. Truth: {size('report')} report images "
        f"after {learning.epochs} epochs of {size('train')} train images (batches of {learning.batch_size}), "
        f"{truth.cpu_s:.1f} processor seconds a policy, mean over seeds 0 to {seeds - 1}: "
        f"{accuracy.min():.2f} to {accuracy.max():.2f} %, mean {accuracy.mean():.2f} %. Its reliability, which no "
        f"score can exceed by much more than its root: accuracy {reliability(truth.accuracy):.2f}, likelihood (minus "
        f"the report loss) {reliability(truth.likelihood):.2f}."
    )


def document(found: Sequence[Score], truth: Truth, about: str, name: str) -> str:
    """Return the Markdown page with the command and versions that made it."""
    packages = describe_environment(seed=0, device="cpu")["packages"]
    lines = [
        "# Fine-tuning in every episode: does it rank policies better?",
        "",
        about,
        "",
        "Rank correlations with the truth, with 95 % intervals (bootstrap over the policies); the default is closeness "
        "without fine-tuning; processor seconds are those of one policy.",
        "",
        *correlation_table(found, truth),
        "",
        "Report accuracy and loss after full fine-tuning to be expected of the policy that is ranked first by "
        "closeness among as many (in brackets) as there is time for, all of them at most. Of a random policy: "
        f"{_reached(truth, np.mean)}; of the best: {_reached(truth, np.max)}.",
        "",
        *choice_table(found, truth),
        "",
        f"![Loss of the choice by time]({name}.png)",
        "",
        f"Made with `python {shlex.join(sys.argv)}`; one thread; "
        + ", ".join(f"{name} {version}" for name, version in packages.items() if version)
        + ".",
        "",
    ]
    return "\n".join(lines)


def _reached(truth: Truth, of: Callable[[FloatArray], float]) -> str:
    accuracy, likelihood = map(of, truth.means)
    return f"{100 * accuracy:.2f} %, {-likelihood:.3f}"


def numbers(policies: Sequence[PolicyBits], found: Sequence[Score], truth: Truth) -> str:
    """Return a CSV with a row for every policy."""
    buffer = io.StringIO()
    rows = []
    for place, bits in enumerate(policies):
        row: dict[str, Any] = dict(zip(("w_bits", "a_bits"), (" ".join(map(str, each)) for each in bits), strict=True))
        for each in found:
            row |= {f"{each.name}: accuracy": each.accuracy[place], f"{each.name}: closeness": each.closeness[place]}
        for seed, (accuracy, likelihood) in enumerate(zip(truth.accuracy[place], truth.likelihood[place], strict=True)):
            row |= {f"truth, seed {seed}: accuracy": accuracy, f"truth, seed {seed}: likelihood": likelihood}
        rows.append(row)
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


@with_config(*MODEL_FLAGS, *DATA_FLAGS)
def main(
    config: SearchConfig,
    *,
    budget: Annotated[str, typer.Option(help="As in haq search.")] = "3bits",
    count: Annotated[int, typer.Option("--policies", help="How many.")] = 24,
    steps: Annotated[str, typer.Option(help="Numbers of steps, with commas between them.")] = "5,20",
    epochs: Annotated[int, typer.Option(help="Of full fine-tuning.")] = 5,
    seeds: Annotated[int, typer.Option(help="Of full fine-tuning; two at least.")] = 3,
    runs: Annotated[Path, typer.Option(help="Where full fine-tunings lie.")] = Path("runs/episode_finetuning"),
    out: Annotated[Path, typer.Option(help="Without an ending.")] = Path("results/episode_finetuning"),
) -> None:
    """Run what is missing, then write tables, numbers and plot."""
    torch.set_num_threads(1)
    config = with_settings(config, budget=(budget,))
    network = prepare_network(config)
    policies = draw_policies(prepare(config, network=network), count)
    found = scores(config, network, policies, [int(each) for each in read_several(steps)])
    learning = finetune_config(epochs=epochs, batch_size=EPISODE_BATCH)
    tuned = [
        fully_finetuned(with_settings(config, seed=seed), network, policies, learning, runs=runs)
        for seed in range(seeds)
    ]
    accuracy, likelihood = np.stack([reached for reached, _ in tuned], axis=-1).transpose(1, 0, 2)
    truth = Truth(accuracy, likelihood, float(np.median([seconds for _, seconds in tuned])))
    about = facts(config, network, truth, learning, budget)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out.with_suffix(".md"), document(found, truth, about, out.name).encode())
    write_atomically(out.with_suffix(".csv"), numbers(policies, found, truth).encode())
    save_figure(picture(found, truth), out.with_suffix(".png"))


if __name__ == "__main__":
    typer.run(main)
