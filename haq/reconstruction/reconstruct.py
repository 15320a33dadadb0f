"""The reconstruction workflow: reconstruct a policy and write its folder."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from haq.config import SearchConfig
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation
from haq.execution.progress import SILENT, Watcher
from haq.execution.user_code import caller_kept
from haq.experiment.artifact import Artifact
from haq.experiment.inputs import Inputs
from haq.experiment.learning_request import LearningRequest
from haq.experiment.loading import load_configured, task_options
from haq.experiment.preparation import prepare_network
from haq.experiment.problem import Network
from haq.experiment.quantized_policy import QuantizedPolicy
from haq.experiment.result_tables import learned_table, result_html
from haq.experiment.results import save_result, save_source
from haq.experiment.stored_preparation import ensure_quantizers
from haq.network.tracing.unwrapping import unwrapped
from haq.policy import Policy, load_policy
from haq.reconstruction.checkpoint import Checkpoints
from haq.reconstruction.config import ReconstructionConfig
from haq.reconstruction.learned import learn_policy
from haq.reconstruction.records import Summary
from haq.runs.environment import describe_environment
from haq.runs.records import Metric, checked
from haq.runs.run_folder import POLICY, SUMMARY, RunFolder
from haq.tasks import load_task
from haq.tasks.base import SplitName

QUANTIZER_SETTINGS = ("calibration", "zero_points", "rounding", "corrections", "engine")
"""Settings that a reconstruction takes from the run of its policy, beside those of network, data and device."""


@dataclass(frozen=True, slots=True)
class ReconstructionResult:
    """Result of a reconstruction.

    Attributes:
        policy: Bits of all layers, with the accuracies reached.
        summary: Results, as in `summary.json`.
        path: Folder of the run; None if it was not kept.
        artifact: Artifact of the run, as `haq.load` returns it; None on the command line.
    """

    policy: Policy
    summary: Summary
    path: Path | None
    artifact: Artifact | None = None

    def _repr_html_(self) -> str:
        """Format scores and bits for a notebook."""
        return result_html("Reconstruction", learned_table(self.summary, "reconstructed"), self.policy, self.path)


ReconstructionRequest = LearningRequest[ReconstructionConfig]


def reconstruct_configured(
    request: ReconstructionRequest,
    path: Path,
    *,
    inputs: Inputs | None = None,
    resume: bool = False,
    watcher: Watcher = SILENT,
) -> ReconstructionResult:
    """Reconstruct a policy; see `haq.reconstruct`.

    Args:
        request: Settings and policy.
        path: Folder of the run.
        inputs: Objects that replace the model and the data that the settings name.
        resume: Whether to continue a run that was interrupted, or return the result of a finished one.
        watcher: Receives phases and steps.

    Returns:
        The result.

    Raises:
        UserError: A setting is wrong, model or data cannot be loaded or do not fit the policy, or the loss became NaN.
    """
    config, inputs = request.config, inputs or Inputs()
    require_rounding(config)
    with caller_kept(inputs.model), RunFolder.opened(path, request.document(), resume=resume) as earlier:
        if earlier is not None and earlier.is_finished:
            return finished(earlier)
        RunFolder.require_writable(path)

        def begin() -> RunFolder:
            environment = describe_environment(seed=config.seed, device=config.device)
            return earlier or RunFolder.create(path, request.document(), environment, resume=resume)

        return _reconstructed(request, begin, inputs, watcher)


def finished(run: RunFolder) -> ReconstructionResult:
    """Read the result of a finished run.

    Args:
        run: Folder of the run.

    Returns:
        The result, without an artifact.

    Raises:
        UserError: A file is missing or damaged.
    """
    summary = checked(Summary, run.read_json(SUMMARY), run.path / SUMMARY, remedy="make the run again in another --out")
    return ReconstructionResult(load_policy(run.path / POLICY), summary, run.path)


def require_rounding(config: SearchConfig) -> None:
    """Check that quantizers have a rounding that can be learned for the weights of the float network.

    Args:
        config: Settings of the quantizers.

    Raises:
        UserError: They have codebooks, or weights are trained in every episode.
    """
    if config.quantizer != "linear":
        raise UserError(f"{config.quantizer} codebooks have no rounding to learn; use --quantizer linear")
    if config.episode_finetune_steps:
        raise UserError(
            "--episode-finetune-steps trains weights, which a reconstruction leaves as they are; leave it out"
        )


def _reconstructed(
    request: ReconstructionRequest, begin: Callable[[], RunFolder], inputs: Inputs, watcher: Watcher
) -> ReconstructionResult:
    config, began = request.config, monotonic()
    model = load_configured(config) if inputs.model is None else unwrapped(inputs.model)
    task = load_task(config.data, model=model, options=task_options(config)) if inputs.task is None else inputs.task
    in_torch = config.model_copy(update={"engine": "torch"})
    network = prepare_network(in_torch, model=model, task=task, example=request.example, progress=watcher.phase)
    policy = request.policy_for(network.priced)
    bits = (policy.w_bits, policy.a_bits)
    ensure_quantizers(network.priced, network.quantizers, policies=(bits,), progress=watcher.phase)
    watcher.phase("search accuracy")
    start = _evaluator(network, config, "search").evaluate(*bits)
    run = begin()
    save_source(run, config, network.priced.trace, request.trace_input(task))
    checkpoints = Checkpoints(run, _identity(request, network), began=began)
    learned = learn_policy(
        network, policy, config=request.learning, seed=config.seed, watcher=watcher, checkpoints=checkpoints
    )
    watcher.phase("report")
    final = prepare_network(config, model=model, task=task, example=request.example, quantized=learned)
    summary = _summary(final, config, policy, start=start, seconds=checkpoints.seconds)
    accuracy = {
        "search": summary.search_accuracy,
        "fp32_search": summary.search_accuracy_fp32,
        "report": summary.accuracy,
        "fp32_report": summary.accuracy_fp32,
    }
    policy = learned.policy.in_version_2(accuracy=accuracy)
    save_result(run, QuantizedPolicy(policy, learned.tensors), summary.model_dump(mode="json"))
    checkpoints.remove()
    return ReconstructionResult(policy, summary, run.path)


def _identity(request: ReconstructionRequest, network: Network) -> str:
    """Return the settings and the network that a checkpoint belongs to, as JSON text."""
    return json.dumps({"settings": request.document(), "weights": network.priced.weights})


def _evaluator(network: Network, config: SearchConfig, split: SplitName) -> Evaluator:
    return Evaluator(network.engine, network.task, split, batch_size=config.eval_batch)


def _summary(network: Network, config: SearchConfig, policy: Policy, *, start: Evaluation, seconds: float) -> Summary:
    """Measure the policy on both splits; the report split took no part in any decision."""
    search, report = (_evaluator(network, config, split) for split in ("search", "report"))
    on_search, on_report = (each.evaluate(policy.w_bits, policy.a_bits) for each in (search, report))
    task = network.task
    return Summary(
        metric=Metric.model_validate(task.metric.record(on_report.accuracy)),
        accuracy_fp32=report.accuracy_fp32,
        accuracy=on_report.accuracy,
        divergence=on_report.divergence,
        search_accuracy_fp32=search.accuracy_fp32,
        search_accuracy=on_search.accuracy,
        search_divergence=on_search.divergence,
        report_images=task.size("report"),
        search_images=task.size("search"),
        calibration_images=task.size("calibration"),
        engine=network.engine_reason,
        cost=policy.cost,
        baseline_cost=policy.baseline_cost,
        search_accuracy_start=start.accuracy,
        search_divergence_start=start.divergence,
        seconds=round(seconds, 3),
    )
