"""Result of a search on standard output: accuracies, costs, budgets, bits, and further commands for the run."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from shlex import quote

from haq.cli.output import print_table, print_text
from haq.cli.screen import width_of
from haq.formatting import format_cost, percent, shorten_all
from haq.layer_bits import LayerBits
from haq.policy import CostSummary
from haq.runs.run_folder import CONFIG, POLICY, RunFolder
from haq.runs.summary import AccuracyDrop, BudgetLimit, Interval, Summary, UniformResult
from haq.searching.search import SearchResult
from haq.tasks.metrics import Metric, metric_of

USUAL_WIDTH = 80
"""Line width for the bits of all layers, in characters, if standard output is no terminal."""
MAX_NAME = 22
"""Characters of a layer's name; three layers with their bits fit a line of the usual width."""
MAX_NAMED = 60
"""Layers whose bits are printed with their names; more are printed as digits."""
DIGITS_PER_LINE, DIGITS_PER_GROUP = 60, 10


def print_result(result: SearchResult, path: Path) -> None:
    """Print scores and costs of the policy, the float network and uniform bits, then the bits and further commands.

    Args:
        result: Result of the search.
        path: Folder of the run.
    """
    summary = result.summary
    _print_table(summary)
    for line in _legend(summary):
        print_text(line)
    if summary.max_accuracy_drop is not None:
        print_text(_drop_line(summary.max_accuracy_drop, summary))
    print_text("")
    for sentence in found_sentences(summary):
        print_text(sentence)
    print_text("")
    for line in bits_lines(result.policy.layers, width=width_of(sys.stdout) or USUAL_WIDTH):
        print_text(line)
    print_text("")
    for note in summary.notes:
        print_text(f"note: {note}")
    counts = (_counted(summary.episodes, "episode"), _counted(summary.evaluations, "evaluation"))
    print_text(f"{', '.join(counts)}, {summary.seconds:.0f} s")
    print_text(f"files in {path}")
    print_text("next:")
    for command in next_commands(path):
        print_text(f"  {command}")


def found_sentences(summary: Summary) -> Iterator[str]:
    """Describe the policy found, compared with the float network and with uniform bits within the budgets.

    Args:
        summary: Summary of the search.

    Yields:
        The sentences; that on uniform bits only for searches under a budget.
    """
    metric, objective = metric_of(summary.metric), summary.objective
    scores = [metric.text(score, digits=2) for score in (summary.accuracy, summary.accuracy_fp32)]
    yield (
        f"At {percent(summary.cost_ratio)} of the {objective} of 8 bits, the policy found has a report {metric.name} "
        f"of {scores[0]}; the float network has {scores[1]}."
    )
    if summary.max_accuracy_drop is not None:
        return
    budgets = "budget" if len(summary.budget) == 1 else "budgets"
    if not summary.uniform:
        yield f"No uniform bits are within the {budgets}."
        return
    best = max(summary.uniform, key=lambda each: each.accuracy)
    score = metric.text(best.accuracy, digits=2)
    yield f"The best uniform bits within the {budgets}, {best.w_bits}/{best.a_bits}, have {score}."


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def bits_lines(layers: Sequence[LayerBits], *, width: int = USUAL_WIDTH) -> Iterator[str]:
    """Format the bits of all layers, weights/activations; those of more than `MAX_NAMED` layers as digits.

    Args:
        layers: Bits of every layer.
        width: Width of the lines, in characters.

    Yields:
        The lines.

    Examples:
        >>> bits = [LayerBits(name=f"layer{n}", kind="conv", w_bits=4, a_bits=8) for n in range(3)]
        >>> list(bits_lines(bits, width=32))
        ['bits of weights/activations:', 'layer0 4/8   layer2 4/8', 'layer1 4/8']
    """
    if len(layers) > MAX_NAMED:
        yield from _digit_lines(layers)
        return
    yield "bits of weights/activations:"
    names = shorten_all([layer.name for layer in layers], MAX_NAME)
    longest = max(map(len, names))
    cells = [
        f"{name:<{longest}} {_width(layer.w_bits)}/{_width(layer.a_bits)}"
        for name, layer in zip(names, layers, strict=True)
    ]
    gap = 3
    rows = -(-len(cells) // max(1, (width + gap) // (max(map(len, cells)) + gap)))
    for row in range(rows):
        yield (" " * gap).join(cells[row::rows])


def next_commands(path: Path) -> Iterator[str]:
    """List commands that take a finished search.

    Args:
        path: Folder of the run.

    Yields:
        The commands, quoted for a shell.
    """
    config = RunFolder(path).read_json(CONFIG) or {}
    is_trained = bool(config.get("episode_finetune_steps"))
    has_rounding = config.get("quantizer") == "linear" and not is_trained
    for command in ("explain", "evaluate"):
        yield f"haq {command} {quote(str(path))}"
    # Learning starts from the network before its training, and so from the policy alone.
    start = path / POLICY if is_trained else path
    yield f"haq {'reconstruct' if has_rounding else 'finetune'} {quote(str(start))}"
    if config.get("quantizer") == "linear":
        yield f"haq export {quote(str(path))}"


def _print_table(summary: Summary) -> None:
    """Print a row for each network, with its cost relative to every budget."""
    objective, metric = summary.objective, metric_of(summary.metric)
    budgets = () if summary.max_accuracy_drop else summary.budget
    scores = _scores(metric, summary.accuracy_fp32, summary.interval_fp32)
    rows = [("float", "-", "-", *("-" for _ in budgets), *scores)]
    found: dict[str, UniformResult | Summary] = {
        **{f"uniform {each.w_bits}/{each.a_bits}": each for each in summary.uniform},
        "policy found": summary,
    }
    for name, each in found.items():
        cost = format_cost(objective, each.cost.value(objective))
        used = (_used(each.cost, budget) for budget in budgets)
        scores = _scores(metric, each.accuracy, each.interval, each.noise)
        rows.append((name, cost, percent(each.cost_ratio), *used, *scores))
    if budgets:
        limits = [format_cost(budget.objective, budget.value) for budget in budgets]
        rows.append(("budget", limits[0], percent(budgets[0].ratio), *limits, "", "", ""))
    costs = (objective, "of\n8 bits", *(f"{budget.objective}\nused" for budget in budgets))
    columns = ("weights/\nactivations", *costs, metric.name, "95 %\ninterval", "output\nerror")
    print_table(f"{summary.report_images} report {metric.items}", columns, rows)


def _scores(
    metric: Metric, score: float, interval: Interval | None, noise: float | None = None
) -> tuple[str, str, str]:
    shown = metric.text(score, digits=2)
    between = "-" if interval is None else f"{100 * interval.low:.1f}-{100 * interval.high:.1f} %"
    return shown, between, "-" if noise is None else f"{noise:.2g}"


def _used(cost: CostSummary, budget: BudgetLimit) -> str:
    value = cost.value(budget.objective)
    return "-" if value is None else percent(value / budget.value)


def _legend(summary: Summary) -> Iterator[str]:
    """Explain intervals and errors, and name the episode of the final policy."""
    if summary.interval is not None:
        yield f"interval: {summary.interval.method}, of each accuracy by itself"
    yield "output error (noise): power of the change in the outputs over theirs, 1/SQNR"
    if summary.winner is None:
        return
    text = f"policy found: episode {summary.winner.episode}, counted from 0"
    if summary.finalists:
        count, items = summary.search_images + summary.selection_images, metric_of(summary.metric).items
        text += f", best of {len(summary.finalists)} finalists on {count} search and selection {items}"
        first = summary.finalists[0].episode
        text += "" if first == summary.winner.episode else f"; on the search {items} alone it was episode {first}"
    yield text


def _drop_line(drop: AccuracyDrop, summary: Summary) -> str:
    """Describe the accuracy that was lost, with the confidence that the limit holds."""
    limit = f"{100 * drop.limit:g} points"
    found = f"{100 * drop.search:.2f} points lost on {summary.search_images} search images, at most {limit} allowed"
    images = {"selection": summary.selection_images, "report": summary.report_images}
    sure = [f"{percent(each)} by {images[split]} {split} images" for split, each in drop.confidence.items()]
    if drop.confidence_required is not None and drop.confidence_reached is not None:
        together = summary.search_images + summary.selection_images
        sure.insert(0, f"{percent(drop.confidence_reached)} by the {together} images that chose it")
        found += f" at {100 * drop.confidence_required:.4g} % confidence"
    return found + (f"; confidence that it is no more than {limit}: {', '.join(sure)}" if sure else "")


def _digit_lines(layers: Sequence[LayerBits]) -> Iterator[str]:
    for start in range(0, len(layers), DIGITS_PER_LINE):
        part = layers[start : start + DIGITS_PER_LINE]
        yield f"bits of layers {start + 1} to {start + len(part)}, in the order of haq layers:"
        for name, bits in (
            ("weights", [each.w_bits for each in part]),
            ("activations", [each.a_bits for each in part]),
        ):
            digits = "".join(map(_width, bits))
            groups = (digits[at : at + DIGITS_PER_GROUP] for at in range(0, len(digits), DIGITS_PER_GROUP))
            yield f"  {name:<11}  {' '.join(groups)}"


def _width(bits: int | None) -> str:
    return "f" if bits is None else str(bits)
