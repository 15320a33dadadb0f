"""Fine-tuning as a function: from a network and a policy to a network that learned to live with it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn

from haq.config import search_config
from haq.environment import describe_environment
from haq.errors import UserError, warn_caller
from haq.finetuning.asked import Asked, PolicyLike, names_of, starting_point
from haq.finetuning.config import FinetuneConfig, finetune_config
from haq.finetuning.ranks import Ranks, joined
from haq.finetuning.saved import JOURNAL, NETWORK, Summary, epochs, load_finetuned
from haq.finetuning.session import FinetuneSession, Watcher
from haq.layers import trace
from haq.loading import task_options
from haq.policy import Policy, load_policy
from haq.progress import Progress, no_progress
from haq.records import holds
from haq.run_dir import POLICY, SUMMARY, RunDir
from haq.searching.running import Given
from haq.tasks import TaskLike, as_task, load_task
from haq.tracing.unwrapping import unwrapped
from haq.user_code import caller_kept
from haq.zoo import load_model


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneResult:
    """The fine-tuned network, ready to be used, its policy and summary, and its folder if it was given one."""

    network: nn.Module
    policy: Policy
    summary: Mapping[str, Any]
    path: Path | None
    is_first: bool = True
    """Whether this process is the one that speaks for all that learned together."""


def finetune(
    model: nn.Module | str | None = None,
    task: TaskLike | None = None,
    *,
    policy: PolicyLike = (4, 4),
    out: str | Path | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
    **settings: Any,
) -> FinetuneResult:
    """Train a network with a policy on it: weights, and the scales and shifts of all quantizers.

    `model` and `task` are objects, or names as on the command line, and `task` may be a mapping, as in `haq.search`;
    without them those of the run that the policy lies in, else the digits network and its data. `policy` is one, its
    file, the folder of its run, or (w_bits, a_bits) for every layer but the first and the last. `settings` are the
    fields of `haq.finetuning.config.FinetuneConfig`, such as epochs, lr and oscillation, and those of
    `haq.config.SearchConfig` that are about network, data, quantizers, device and seed. `out` keeps the run in a
    folder; `resume` goes on with one that was interrupted. The network that is given is not changed.

    Raises UserError or UnsupportedError for what cannot be done, before the first step; UserError for a loss that
    becomes NaN.
    """
    task = None if task is None else as_task(task)
    learning = {name: settings.pop(name) for name in list(settings) if name in FinetuneConfig.model_fields}
    start = starting_point(policy, search_config(**names_of(model, task), **settings))
    asked = Asked(start.config, finetune_config(**learning), start.policy, start.example)
    given = Given.of(model, task)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run" if out is None else Path(out)
        result = finetune_configured(asked, path, given=given, resume=resume and out is not None, watcher=watcher)
    warn_caller(result.summary["warnings"])
    return result if out is not None else replace(result, path=None)


def finetune_configured(
    asked: Asked,
    path: Path,
    *,
    given: Given | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
    progress: Progress = no_progress,
) -> FinetuneResult:
    """The fine-tuning that was asked for, kept in a folder; see `finetune`. Of several processes the first writes."""
    given = given or Given()
    with (
        joined(asked.config.device) as ranks,
        caller_kept(given.model),
        _opened(path, asked, ranks, resume=resume) as run,
    ):
        if run is not None and run.is_finished:
            return finished(run, asked, given)
        progress = progress if ranks.is_first else no_progress
        session = FinetuneSession(asked, given, ranks=ranks, progress=progress)
        # All processes read before the first one writes: they go on at the same epoch.
        state = run.load_checkpoint() if run is not None else None
        journal = len(epochs(run)) if run is not None else 0
        ranks.meet()
        if ranks.is_first:
            session.enter(run or _create(path, asked, resume=resume))
        session.go_on(state, journal=journal)
        session.learn(watcher if ranks.is_first else None)
        progress("report")
        policy, summary = session.finish()
        return FinetuneResult(session.network, policy, summary, path, is_first=ranks.is_first)


def finished(run: RunDir, asked: Asked, given: Given) -> FinetuneResult:
    """What a finished run came to. Raises UserError if its files are not whole."""
    summary, config = run.read_json(SUMMARY), asked.config
    if summary is None or not holds(Summary, summary):
        raise UserError(f"{run.path} holds no finished run: {SUMMARY} is missing or damaged")
    policy = load_policy(run.path / POLICY)
    model = load_model(config.model, weights=config.weights) if given.model is None else unwrapped(given.model)
    task = load_task(config.data, model=model, options=task_options(config)) if given.task is None else given.task
    traced = trace(model, asked.traced_with(task))
    return FinetuneResult(load_finetuned(run, model, traced, policy), policy, summary, run.path)


@contextmanager
def _opened(path: Path, asked: Asked, ranks: Ranks, *, resume: bool) -> Iterator[RunDir | None]:
    """The run to continue: the first process holds its folder, and the others read it only then."""
    if ranks.is_first:
        with RunDir.opened(path, asked.document(), resume=resume) as run:
            ranks.meet()
            yield run
    else:
        ranks.meet()
        yield RunDir.reopen(path, asked.document()) if resume else None


def _create(path: Path, asked: Asked, *, resume: bool) -> RunDir:
    environment = describe_environment(seed=asked.config.seed, device=asked.config.device)
    run = RunDir.create(path, asked.document(), environment, resume=resume)
    for name in (JOURNAL, NETWORK):
        (path / name).unlink(missing_ok=True)
    return run
