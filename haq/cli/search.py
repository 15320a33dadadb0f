"""`haq search`: search the bits of every layer under a budget."""

from pathlib import Path
from typing import Annotated

import typer

from haq.budgets import parse_duration
from haq.cli.clusters import ClusterFlag, TaskCpusFlag, TaskGpusFlag, WorkersFlag, workers_of
from haq.cli.flags import ALL_FLAGS, JsonFlag, OutFolder, QuietFlag, with_config
from haq.cli.folders import default_out, resumable, resume_command
from haq.cli.output import draw_figures, print_json, print_text, say, warn
from haq.cli.progress import shown_progress
from haq.cli.reconstruct import print_result as print_reconstruction
from haq.cli.search_result import print_result
from haq.config import SearchConfig, search_config
from haq.evaluation.store import EvaluationStore
from haq.experiment.inputs import Inputs
from haq.experiment.learning_request import learning_request
from haq.reconstruction.config import reconstruction_config
from haq.reconstruction.reconstruct import (
    QUANTIZER_SETTINGS,
    ReconstructionResult,
    reconstruct_configured,
    require_rounding,
)
from haq.runs.run_folder import RunFolder
from haq.searching.search import search_configured


@with_config(*ALL_FLAGS)
def search(
    config: SearchConfig,
    *,
    out: OutFolder = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the run in --out, if there is one; also with more --episodes."),
    ] = False,
    time: Annotated[
        str | None, typer.Option(help="Time limit, such as 2h, 30m or 90s; --resume continues.", metavar="TIME")
    ] = None,
    store: Annotated[
        bool,
        typer.Option(
            "--store/--no-store", help="Keep evaluations in the cache and reuse them; quantizers are in any case."
        ),
    ] = True,
    reconstruct: Annotated[
        bool,
        typer.Option(
            "--reconstruct", help="Reconstruct the policy at the end, as haq reconstruct does, in OUT-reconstructed."
        ),
    ] = False,
    workers: WorkersFlag = 1,
    cluster: ClusterFlag = None,
    task_cpus: TaskCpusFlag = 1,
    task_gpus: TaskGpusFlag = 0,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Search the bits of every layer under a budget.

    The policy that loses the least accuracy on the search images is measured on the report images at the end.
    """
    path = out or _default_out(config)
    learned_path = _free_for_reconstruction(config, path, resume=resume) if reconstruct else None
    limit_s = None if time is None else parse_duration(time)
    inputs = Inputs(store=EvaluationStore() if store and not config.episode_finetune_steps else None)
    where = workers_of(workers, cluster, task_cpus=task_cpus, task_gpus=task_gpus)
    if where is not None and config.proposals < max(workers, 2):
        warn(f"policies are evaluated {config.proposals} at a time, by so many workers; see --proposals")
    with resumable(path, kept="everything so far is"), shown_progress(quiet=quiet) as watcher:
        result = search_configured(
            config, path, inputs=inputs, resume=resume, time_limit_s=limit_s, workers=where, watcher=watcher
        )
    draw_figures(path)
    for warning in result.summary.warnings:
        warn(warning)
    is_whole = result.summary.ended_by != "time"
    if not json:
        print_result(result, path)
        if not is_whole:
            print(f"ended by --time after {result.summary.episodes} of {config.episodes} episodes; go on with:")
            print(resume_command(path, keep_time=False))
    learned = _reconstructed(path, learned_path, resume=resume, quiet=quiet) if learned_path and is_whole else None
    if json:
        more = {} if learned is None else {"reconstructed": learned.summary.model_dump(mode="json")}
        print_json({**result.summary.model_dump(mode="json"), **more})
    elif learned is not None and learned.path is not None:
        print_text("")
        print_reconstruction(learned, learned.path)


def _free_for_reconstruction(config: SearchConfig, path: Path, *, resume: bool) -> Path:
    """Return the folder for the reconstruction of a search; raises UserError, before the search, if it cannot run."""
    require_rounding(config)
    folder = path.with_name(f"{path.name}-reconstructed")
    if not resume:
        RunFolder.check_free(folder)
    return folder


def _reconstructed(path: Path, out: Path, *, resume: bool, quiet: bool) -> ReconstructionResult:
    """Reconstruct the policy of a finished search with the defaults of `haq reconstruct`."""
    request = learning_request(path, search_config(), reconstruction_config(), inherited=QUANTIZER_SETTINGS, notify=say)
    kept = f"the last checkpoint is in {out}, and the search is"
    with resumable(path, kept=kept), shown_progress(quiet=quiet) as watcher:
        return reconstruct_configured(request, out, resume=resume, watcher=watcher)


def _default_out(config: SearchConfig) -> Path:
    """Return results/<model>-<hardware>-<objective>-<budget>-<agent>-s<seed>.

    The name has drop0.5 in place of a budget, and the deployment target, if any, after the device.
    """
    drop = config.max_accuracy_drop
    target = str(config.budgets[0]) if drop is None else f"drop{drop:g}"
    device = "-".join(Path(name).stem for name in (config.hardware, config.deploy) if name is not None)
    return default_out(config.model, device, config.objective, target, config.agent, f"s{config.seed}")
