"""`haq search`: from a network and a budget to a policy."""

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from haq.budgets import parse_budgets, parse_duration
from haq.cli.flags import ALL_FLAGS, JsonFlag, QuietFlag, with_config
from haq.cli.output import print_json, print_table, say, warn
from haq.cli.progress import progress_watcher
from haq.config import SearchConfig
from haq.evaluation.store import EvaluationStore
from haq.pretty import percent, pretty_cost
from haq.run_dir import safe_name
from haq.searching.running import Given, SearchResult, search_configured
from hardware_sim.cost import OBJECTIVES


@with_config(*ALL_FLAGS)
def search(
    config: SearchConfig,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="results/...")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, if there is one.")] = False,
    time: Annotated[str | None, typer.Option(help="Stop after this long with what there is: 2h, 30m, 90s.")] = None,
    store: Annotated[bool, typer.Option("--store/--no-store", help="Use and keep evaluations in the cache.")] = True,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Find the bits of every layer that meet a budget on a device at the least loss of accuracy."""
    path = out or default_out(config)
    limit_s = None if time is None else parse_duration(time)
    watcher = None if quiet else progress_watcher()
    given = Given(store=EvaluationStore() if store and not config.episode_finetune_steps else None)
    try:
        result = search_configured(config, path, given=given, resume=resume, time_limit_s=limit_s, watcher=watcher)
    except KeyboardInterrupt:
        kept = f"everything so far is in {path}" if path.is_dir() else "nothing was written yet"
        say(f"stopped; {kept}. Go on with: {resume_command(path)}")
        raise
    for warning in result.summary["warnings"]:
        warn(warning)
    if json:
        print_json(dict(result.summary))
    else:
        print_result(result, path)


def default_out(config: SearchConfig) -> Path:
    """results/<model>-<hardware>-<objective>-<budget>-<agent>-s<seed>, safe as a file name; drop0.5 for a budget."""
    drop = config.max_accuracy_drop
    aim = str(parse_budgets(config.budget, config.objective)[0]) if drop is None else f"drop{100 * drop:g}"
    names = (config.model, Path(config.hardware).stem, config.objective, aim, config.agent)
    text = "-".join((*names, f"s{config.seed}"))
    return Path("results") / safe_name(text)


def resume_command(path: Path) -> str:
    """What a user types to go on: the same command once more, with --resume."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    has_out = any(word == "--out" or word.startswith("--out=") for word in words)
    return shlex.join(["haq", *words, *([] if has_out else ["--out", str(path)]), "--resume"])


def print_result(result: SearchResult, path: Path) -> None:
    """The policy next to the float network and uniform bits, on the report split."""
    summary = result.summary
    objective = summary["objective"]
    key = ("latency_s", "energy_j", "weight_bytes", "bops")[OBJECTIVES.index(objective)]
    rows = [("float", "-", "-", percent(summary["accuracy_fp32"], digits=2))]
    for each in summary["uniform"]:
        name = f"uniform {each['w_bits']}/{each['a_bits']}"
        rows.append(
            (
                name,
                pretty_cost(objective, each["cost"][key]),
                percent(each["cost_ratio"]),
                percent(each["accuracy"], digits=2),
            )
        )
    rows.append(
        (
            "policy found",
            pretty_cost(objective, summary["cost"][key]),
            percent(summary["cost_ratio"]),
            percent(summary["accuracy"], digits=2),
        )
    )
    title = f"{summary['report_images']} report images, budget {percent(summary['budget'][0]['ratio'])} of 8 bits"
    print_table(title, ("weights/activations", objective, "of 8 bits", summary["metric"]["name"]), rows)
    if "max_accuracy_drop" in summary:
        print(_drop_line(summary["max_accuracy_drop"], summary))
    for note in summary.get("notes", ()):
        print(f"note: {note}")
    print(f"{summary['episodes']} episodes, {summary['evaluations']} evaluations, {summary['seconds']:.0f} s")
    print(f"files in {path}")


def _drop_line(drop: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """What may be said of the accuracy that was lost."""
    limit = f"{100 * drop['limit']:g} points"
    found = (
        f"{100 * drop['search']:.2f} points lost on {summary['search_images']} search images, at most {limit} allowed"
    )
    sure = [
        f"{percent(confidence)} by {summary[f'{split}_images']} {split} images"
        for split, confidence in drop["confidence"].items()
    ]
    return found + (f"; confidence that it is no more than {limit}: {', '.join(sure)}" if sure else "")
