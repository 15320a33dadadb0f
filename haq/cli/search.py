"""`haq search`: from a network and a budget to a policy."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from haq.budgets import parse_duration
from haq.cli.flags import ALL_FLAGS, JsonFlag, QuietFlag, with_config
from haq.cli.output import draw_figures, print_json, say_command, warn
from haq.cli.progress import shown_progress
from haq.cli.search_result import print_result
from haq.config import SearchConfig
from haq.evaluation.store import EvaluationStore
from haq.experiment.inputs import Inputs
from haq.runs.run_folder import safe_name
from haq.searching.running import search_configured


@with_config(*ALL_FLAGS)
def search(
    config: SearchConfig,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="results/...")] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the run in --out, if there is one, or with more --episodes."),
    ] = False,
    time: Annotated[
        str | None, typer.Option(help="Stop when the search has taken this long: 2h, 30m, 90s; --resume goes on.")
    ] = None,
    store: Annotated[bool, typer.Option("--store/--no-store", help="Use and keep evaluations in the cache.")] = True,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Find the bits of every layer that meet a budget on a device at the least loss of accuracy."""
    path = out or default_out(config)
    limit_s = None if time is None else parse_duration(time)
    inputs = Inputs(store=EvaluationStore() if store and not config.episode_finetune_steps else None)
    try:
        with shown_progress(quiet=quiet) as watcher:
            result = search_configured(
                config, path, inputs=inputs, resume=resume, time_limit_s=limit_s, watcher=watcher
            )
    except KeyboardInterrupt:
        kept = f"everything so far is in {path}" if path.is_dir() else "nothing was written yet"
        say_command(f"stopped; {kept}. Go on with:", resume_command(path))
        raise
    draw_figures(path)
    for warning in result.summary.warnings:
        warn(warning)
    if json:
        print_json(result.summary.model_dump(mode="json"))
        return
    print_result(result, path)
    if result.summary.ended_by == "time":
        print(f"ended by --time after {result.summary.episodes} of {config.episodes} episodes; go on with:")
        print(resume_command(path, keep_time=False))


def default_out(config: SearchConfig) -> Path:
    """results/<model>-<hardware>-<objective>-<budget>-<agent>-s<seed>, safe as a file name; drop0.5 for a budget."""
    drop = config.max_accuracy_drop
    aim = str(config.budgets[0]) if drop is None else f"drop{drop:g}"
    names = (config.model, Path(config.hardware).stem, config.objective, aim, config.agent)
    text = "-".join((*names, f"s{config.seed}"))
    return Path("results") / safe_name(text)


def resume_command(path: Path, *, keep_time: bool = True) -> str:
    """What a user types to go on: the same command once more, with --resume, and on request without --time."""
    words = [word for word in sys.argv[1:] if word != "--resume"]
    if not keep_time:
        times = [number for number, word in enumerate(words) if word == "--time"]
        dropped = {*times, *(number + 1 for number in times)}
        words = [word for number, word in enumerate(words) if number not in dropped and not word.startswith("--time=")]
    has_out = any(word == "--out" or word.startswith("--out=") for word in words)
    return shlex.join(["haq", *words, *([] if has_out else ["--out", str(path)]), "--resume"])
