"""Evaluation of an artifact on the report split."""

from collections.abc import Iterator
from typing import Any

from haq.evaluation.detailed_score import detailed_score
from haq.execution.progress import Progress, no_progress
from haq.execution.user_code import caller_kept
from haq.experiment.artifact import Artifact
from haq.experiment.preparation import prepare_network
from haq.experiment.problem import Network, PricedModel
from haq.policy import CostSummary, Policy
from haq.tasks.optional import float_warning
from hardware_sim.cost import UnsupportedError


def evaluate_artifact(artifact: Artifact, *, progress: Progress = no_progress) -> dict[str, Any]:
    """Evaluate a policy on the report split.

    If the quantizers of the run are stored, nothing is calibrated; if the run trained the network, the trained one is
    evaluated.

    Args:
        artifact: The policy, with the settings and objects that model and data are loaded from.
        progress: Receives the name of every phase.

    Returns:
        The document that `haq evaluate --json` prints: model, hardware, metric, images, accuracy, accuracy_fp32,
        details and details_fp32 (further values of the task, such as `ap50`), cost, baseline_cost and warnings.
        Accuracies are fractions.

    Raises:
        UserError: Model or data cannot be loaded, or do not fit the policy.
        UnsupportedError: The device has no cost for the bits.
    """
    artifact.allow_code()
    inputs, policy, config = artifact.inputs, artifact.policy, artifact.config
    with caller_kept(inputs.model):
        network = prepare_network(
            config,
            model=inputs.model,
            task=inputs.task,
            example=artifact.example,
            quantized=artifact.quantized,
            progress=progress,
        )
        progress("report")
        floats, found = (
            detailed_score(network.engine, network.task, bits, "report", batch_size=config.eval_batch)
            for bits in (None, (policy.w_bits, policy.a_bits))
        )
        cost = _cost(network.priced, policy, is_required="hardware" in artifact.source.given)
        return {
            "model": network.priced.name,
            "hardware": network.priced.table.hardware,
            "metric": network.task.metric.record(found.score),
            "images": network.task.size("report"),
            "accuracy": found.score,
            "accuracy_fp32": floats.score,
            "details": dict(found.details),
            "details_fp32": dict(floats.details),
            "cost": cost.model_dump(),
            "baseline_cost": CostSummary.of(network.priced.baseline).model_dump(),
            "warnings": list(_warnings(network, policy, floats.score)),
        }


def _warnings(network: Network, policy: Policy, accuracy_fp32: float) -> Iterator[str]:
    """Yield reasons to doubt the figures."""
    warning = float_warning(network.task, accuracy_fp32, "report")
    if warning:
        yield warning
    if policy.weights is not None and policy.weights != network.priced.weights:
        yield f"the weights of {network.priced.name} are not those that the policy was made for; its bits may not suit"


def _cost(priced: PricedModel, policy: Policy, *, is_required: bool) -> CostSummary:
    """Return the cost of a policy.

    It is empty if the policy was made for no device, the device has no cost for its bits, and the cost is not required.
    """
    try:
        return CostSummary.of(priced.table.policy_cost(policy.w_bits, policy.a_bits))
    except UnsupportedError:
        if is_required or policy.hardware:
            raise
        return CostSummary()
