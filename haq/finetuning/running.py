"""Fine-tuning as a function: from a network and a policy to a network that learned to live with it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from haq.errors import UserError
from haq.execution.progress import SILENT, Watcher
from haq.execution.user_code import caller_kept
from haq.experiment.inputs import Inputs
from haq.experiment.loading import task_options
from haq.experiment.starting_point import Asked
from haq.experiment.trained_network import JOURNAL, NETWORK, Summary, epochs, load_finetuned
from haq.finetuning.session import FinetuneSession
from haq.network.layers import trace
from haq.network.tracing.unwrapping import unwrapped
from haq.network.zoo import load_model
from haq.policy import Policy, load_policy
from haq.quantization.training.ranks import Ranks, joined
from haq.runs.environment import describe_environment
from haq.runs.records import holds
from haq.runs.run_folder import POLICY, SUMMARY, RunFolder
from haq.tasks import load_task


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneResult:
    """The fine-tuned network, ready to be used, its policy and summary, and its folder if it was given one."""

    network: nn.Module
    policy: Policy
    summary: Mapping[str, Any]
    path: Path | None
    is_first: bool = True
    """Whether this process is the one that speaks for all that learned together."""


def finetune_configured(
    asked: Asked,
    path: Path,
    *,
    inputs: Inputs | None = None,
    resume: bool = False,
    watcher: Watcher = SILENT,
) -> FinetuneResult:
    """The fine-tuning that was asked for, kept in a folder; see `finetune`. Of several processes the first writes."""
    inputs = inputs or Inputs()
    with (
        joined(asked.config.device) as ranks,
        caller_kept(inputs.model),
        _opened(path, asked, ranks, resume=resume) as run,
    ):
        if run is not None and run.is_finished:
            return finished(run, asked, inputs)
        watcher = watcher if ranks.is_first else SILENT
        session = FinetuneSession(asked, inputs, ranks=ranks, watcher=watcher)
        # All processes read before the first one writes: they go on at the same epoch.
        state = run.load_checkpoint() if run is not None else None
        journal = len(epochs(run)) if run is not None else 0
        ranks.meet()
        if ranks.is_first:
            session.enter(run or _create(path, asked, resume=resume))
        session.go_on(state, journal=journal)
        session.learn(watcher)
        watcher.phase("report")
        policy, summary = session.finish()
        return FinetuneResult(session.network, policy, summary, path, is_first=ranks.is_first)


def finished(run: RunFolder, asked: Asked, inputs: Inputs) -> FinetuneResult:
    """What a finished run came to. Raises UserError if its files are not whole."""
    summary, config = run.read_json(SUMMARY), asked.config
    if summary is None or not holds(Summary, summary):
        raise UserError(f"{run.path} holds no finished run: {SUMMARY} is missing or damaged")
    policy = load_policy(run.path / POLICY)
    model = load_model(config.model, weights=config.weights) if inputs.model is None else unwrapped(inputs.model)
    task = load_task(config.data, model=model, options=task_options(config)) if inputs.task is None else inputs.task
    traced = trace(model, asked.traced_with(task))
    return FinetuneResult(load_finetuned(run, model, traced, policy), policy, summary, run.path)


@contextmanager
def _opened(path: Path, asked: Asked, ranks: Ranks, *, resume: bool) -> Iterator[RunFolder | None]:
    """The run to continue: the first process holds its folder, and the others read it only then."""
    if ranks.is_first:
        with RunFolder.opened(path, asked.document(), resume=resume) as run:
            ranks.meet()
            yield run
    else:
        ranks.meet()
        yield RunFolder.reopen(path, asked.document()) if resume else None


def _create(path: Path, asked: Asked, *, resume: bool) -> RunFolder:
    environment = describe_environment(seed=asked.config.seed, device=asked.config.device)
    run = RunFolder.create(path, asked.document(), environment, resume=resume)
    for name in (JOURNAL, NETWORK):
        (path / name).unlink(missing_ok=True)
    return run
