"""The fine-tuning workflow: start a run in a folder, continue it, or load the result of a finished one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from torch import nn

from haq.costs.deployment import deployment_target
from haq.errors import UserError
from haq.execution.progress import SILENT, Watcher
from haq.execution.user_code import caller_kept
from haq.experiment.artifact import Artifact, load_artifact
from haq.experiment.inputs import Inputs
from haq.experiment.network_state import NETWORK
from haq.experiment.restoration import restored_network
from haq.experiment.result_tables import learned_table, result_html
from haq.finetuning.journal import JOURNAL, Summary, epochs
from haq.finetuning.session import FinetuneRequest, FinetuneSession
from haq.policy import Policy
from haq.quantization.training.ranks import Ranks, joined
from haq.runs.environment import describe_environment
from haq.runs.records import holds
from haq.runs.run_folder import SUMMARY, RunFolder


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneResult:
    """Result of a fine-tuning.

    Attributes:
        network: The fine-tuned, quantized network in evaluation mode.
        policy: Bits of all layers, with the accuracies of the network.
        summary: Results, as in `summary.json`.
        path: Folder of the run; None if it was not kept.
        is_first: Whether this process is the first of those that trained together, which reports for all.
        artifact: Artifact of the run, as `haq.load` returns it; None on the command line.
    """

    network: nn.Module
    policy: Policy
    summary: Summary
    path: Path | None
    is_first: bool = True
    artifact: Artifact | None = None

    def _repr_html_(self) -> str:
        """Format scores and bits for a notebook."""
        return result_html("Fine-tuning", learned_table(self.summary, "fine-tuned"), self.policy, self.path)


def finetune_configured(
    request: FinetuneRequest,
    path: Path,
    *,
    inputs: Inputs | None = None,
    resume: bool = False,
    watcher: Watcher = SILENT,
) -> FinetuneResult:
    """Fine-tune a network; see `haq.finetune`. With several processes, the first one writes the files.

    Args:
        request: Settings and policy.
        path: Folder of the run.
        inputs: Objects that replace the model and the data that the settings name.
        resume: Whether to continue a run that was interrupted, or return the result of a finished one.
        watcher: Receives phases, steps and epochs.

    Returns:
        The result.

    Raises:
        UserError: A setting is wrong, model or data cannot be loaded or do not fit the policy, or the loss became NaN.
    """
    request, inputs = _for_target(request), inputs or Inputs()
    with (
        joined(request.config.device) as ranks,
        caller_kept(inputs.model),
        _opened(path, request, ranks, resume=resume) as run,
    ):
        if run is not None and run.is_finished:
            return finished(run, request, inputs)
        watcher = watcher if ranks.is_first else SILENT
        session = FinetuneSession(request, inputs, ranks=ranks, watcher=watcher)
        # All processes read before the first one writes: they go on at the same epoch.
        state = run.load_checkpoint() if run is not None else None
        journal = len(epochs(run)) if run is not None else 0
        ranks.barrier()
        if ranks.is_first:
            session.enter(run or _create(path, request, resume=resume))
        session.resume(state, journal=journal)
        session.learn(watcher)
        watcher.phase("report")
        policy, summary = session.finish()
        return FinetuneResult(session.network, policy, summary, path, is_first=ranks.is_first)


def _for_target(request: FinetuneRequest) -> FinetuneRequest:
    """Return a request without zero points if the deployment target has none.

    Raises:
        UserError: Zero points or offsets are explicitly to be learned, and the target has none.
    """
    target, learning = deployment_target(request.config), request.learning
    if target is None:
        return request
    if target.zero_points and learning.shift == "float" and not target.offsets:
        raise UserError(f"--shift float: --deploy {target.name} has no offsets; use --shift learned")
    if target.zero_points or learning.shift == "none":
        return request
    if "shift" in learning.model_fields_set:
        raise UserError(f"--shift {learning.shift}: --deploy {target.name} has no zero points; use --shift none")
    return replace(request, learning=learning.model_copy(update={"shift": "none"}))


def finished(run: RunFolder, request: FinetuneRequest, inputs: Inputs) -> FinetuneResult:
    """Load the result of a finished run.

    Args:
        run: Folder of the run.
        request: Settings and policy of the run.
        inputs: Objects that replace the model and the data that the settings name.

    Returns:
        The result.

    Raises:
        UserError: A file is missing or damaged.
    """
    summary = run.read_json(SUMMARY)
    if summary is None or not holds(Summary, summary):
        raise UserError(f"{run.path} holds no finished run: {SUMMARY} is missing or damaged")
    artifact = load_artifact(run.path, inputs=inputs)
    network = restored_network(request.config, artifact.quantized, example=artifact.example, inputs=inputs)
    return FinetuneResult(network, artifact.policy, Summary.model_validate(summary), run.path)


@contextmanager
def _opened(path: Path, request: FinetuneRequest, ranks: Ranks, *, resume: bool) -> Iterator[RunFolder | None]:
    """Open the run to continue: the first process locks its folder before the others read it."""
    if ranks.is_first:
        with RunFolder.opened(path, request.document(), resume=resume) as run:
            ranks.barrier()
            yield run
    else:
        ranks.barrier()
        yield RunFolder.reopen(path, request.document()) if resume else None


def _create(path: Path, request: FinetuneRequest, *, resume: bool) -> RunFolder:
    environment = describe_environment(seed=request.config.seed, device=request.config.device)
    run = RunFolder.create(path, request.document(), environment, resume=resume)
    for name in (JOURNAL, NETWORK):
        (path / name).unlink(missing_ok=True)
    return run
