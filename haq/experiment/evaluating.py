"""How accurate a policy file is."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from haq.config import DECIDE_QUANTIZERS, SearchConfig
from haq.errors import UserError
from haq.evaluation.engines.finetuned import FinetunedEngine
from haq.evaluation.engines.torch import TorchEngine
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Engine
from haq.execution.progress import Progress, no_progress
from haq.execution.user_code import one_line
from haq.experiment.problem import Network, PricedModel, prepare_network, rounding_of
from haq.experiment.run_settings import PolicySource, is_reconstructed, policy_source
from haq.experiment.trained_network import has_trained_network, load_finetuned
from haq.network.layers import Trace
from haq.policy import CostSummary, Policy, PolicyBits
from haq.quantization.corrections import Corrections
from haq.quantization.quantized_model import Quantizers
from haq.runs.run_folder import QUANTIZERS, RunFolder
from haq.tasks.base import float_warning
from hardware_sim.cost import UnsupportedError


def evaluate_policy(
    path: Path,
    config: SearchConfig,
    *,
    notify: Callable[[str], None] = lambda _: None,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Accuracy on the report split and cost of a policy: the document that `haq evaluate --json` prints.

    `path` is a policy file or the folder of a run. What `config` does not set comes from the run that the policy lies
    in, else from the policy. With a run's quantizers beside it nothing is calibrated. Where the run trained the
    network, the trained one is evaluated. `notify` receives a line for every callable that is called because the files
    name it. Raises UserError or UnsupportedError.
    """
    source = policy_source(path, config, notify=notify)
    source.allow_code()
    network = _prepared(source, progress)
    progress("report")
    policy = source.policy
    report = Evaluator(network.engine, network.task, "report", batch_size=source.config.eval_batch)
    cost = _cost(network.priced, policy, asked="hardware" in config.model_fields_set)
    accuracy = report.evaluate(policy.w_bits, policy.a_bits).accuracy
    warning = float_warning(network.task, report.accuracy_fp32, "report")
    return {
        "model": network.priced.name,
        "hardware": network.priced.table.hardware,
        "metric": network.task.metric.record(accuracy),
        "images": network.task.size("report"),
        "accuracy": accuracy,
        "accuracy_fp32": report.accuracy_fp32,
        "cost": cost.model_dump(),
        "baseline_cost": CostSummary.of(network.priced.baseline).model_dump(),
        "warnings": [warning] if warning else [],
    }


def _prepared(source: PolicySource, progress: Progress) -> Network:
    """The network with the quantizers of the run, or the trained one, where the policy is the run's own."""
    policy, run = source.policy, source.run if source.is_runs_own else None
    trained = run if run is not None and has_trained_network(run) else None
    changed = []
    if run is not None and source.run_config is not None:
        changed = _changed_quantizers(source.config, source.run_config)
    if run is not None and changed and is_reconstructed(run):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UserError(f"the quantizers of {run.path} learned with other settings; leave out {names}")

    def tuned(priced: PricedModel) -> Engine:
        policy.check_fits(priced.layers, model=priced.name)
        assert trained is not None
        network = load_finetuned(trained, priced.model, priced.trace, policy)
        return FinetunedEngine(priced.model, network, (policy.w_bits, policy.a_bits))

    def restore(priced: PricedModel, quantizers: Quantizers, reference: TorchEngine) -> Sequence[PolicyBits]:
        policy.check_fits(priced.layers, model=priced.name)
        return (
            ()
            if run is None or changed
            else _use_stored(run, policy, quantizers, reference=reference, trace=priced.trace)
        )

    return prepare_network(
        source.config,
        example=source.example(),
        restore=restore,
        make_engine=tuned if trained is not None else None,
        progress=progress,
    )


def _cost(priced: PricedModel, policy: Policy, *, asked: bool) -> CostSummary:
    """What a policy costs; a policy of no device has no cost where the device was not asked for and knows none."""
    try:
        return CostSummary.of(priced.table.policy_cost(policy.w_bits, policy.a_bits))
    except UnsupportedError:
        if asked or policy.hardware:
            raise
        return CostSummary()


def _changed_quantizers(ours: SearchConfig, theirs: SearchConfig) -> list[str]:
    """What of that which quantizers and corrections depend on is not as it was in the run."""
    changed = [name for name in DECIDE_QUANTIZERS if getattr(ours, name) != getattr(theirs, name)]
    if rounding_of(ours) == rounding_of(theirs):
        return [name for name in changed if name != "rounding"]
    return changed


def _require_usable(tensors: Mapping[str, Tensor], corrections: Corrections, trace: Trace) -> None:
    """Raise ValueError for numbers that are not finite, scales below 0, and biases of another shape."""
    for name, tensor in tensors.items():
        is_scale = name.endswith(".scale")
        if tensor.is_floating_point() and not (tensor.isfinite().all() and (not is_scale or (tensor >= 0).all())):
            raise ValueError(f"{name} has values that it cannot have")
    for layer, bias in corrections.biases.items():
        if tuple(bias.shape) != (trace.layers[layer].c_out,):
            raise ValueError(f"the bias of {trace.layers[layer].name} has the shape {tuple(bias.shape)}")


def _use_stored(
    run: RunFolder, policy: Policy, quantizers: Quantizers, reference: TorchEngine, trace: Trace
) -> Sequence[PolicyBits]:
    """Take quantizers and corrections from a run if it kept those of this policy, its own; answers their policy."""
    stored = run.load_tensors(QUANTIZERS)
    if stored is None:
        return ()
    tensors = {name: tensor.to(reference.device) for name, tensor in stored.items()}
    names, bits = tuple(layer.name for layer in policy.layers), (policy.w_bits, policy.a_bits)
    try:
        quantizers.load(tensors, *bits)
        corrections = Corrections.from_tensors(tensors, names)
        _require_usable(tensors, corrections, trace)
    except (KeyError, ValueError, RuntimeError, TypeError, IndexError) as error:
        raise UserError(f"{run.path / QUANTIZERS} does not fit the policy: {one_line(error)}; delete it") from error
    reference.store(bits, corrections)
    return (bits,)
