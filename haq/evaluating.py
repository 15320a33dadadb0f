"""How accurate a policy file is."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from haq.config import DECIDE_QUANTIZERS, SearchConfig, search_config
from haq.corrections import Corrections
from haq.costs.pricing import PricedModel
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import PolicyBits
from haq.evaluation.torch_engine import TorchEngine
from haq.finetuning.engine import FinetunedEngine
from haq.finetuning.saved import is_finetuned, load_finetuned
from haq.policy import CostSummary, Policy, load_policy
from haq.problem import Network, prepare_network, rounding_of
from haq.quantized_model import Quantizers
from haq.reconstruction.running import is_reconstructed
from haq.run_dir import CONFIG, POLICY, QUANTIZERS, RunDir
from haq.tasks import Task
from haq.tasks.classification import ClassificationTask, chance_warning
from haq.user_code import one_line
from hardware_sim.cost import UnsupportedError


def evaluate_policy(path: Path, config: SearchConfig) -> dict[str, Any]:
    """Accuracy on the report split and cost of a policy file: the document that `haq evaluate --json` prints.

    What `config` does not set comes from the run that the file lies in, else from the policy. With a run's quantizers
    beside it nothing is calibrated. Raises UserError or UnsupportedError.
    """
    policy = load_policy(path)
    run = RunDir(path.parent)
    settings = {key: value for key, value in (run.read_json(CONFIG) or {}).items() if key in SearchConfig.model_fields}
    known = {"model": policy.model} | ({"hardware": policy.hardware} if policy.hardware else {})
    chosen = {key: getattr(config, key) for key in config.model_fields_set}
    merged = search_config(**{**settings, **known, **chosen})
    is_runs_own = bool(settings) and load_policy(run.path / POLICY).layers == policy.layers
    finetuned = is_runs_own and is_finetuned(run)
    changed = _changed_quantizers(merged, search_config(**settings)) if is_runs_own else []
    if changed and is_reconstructed(run):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise UserError(f"the quantizers of {run.path} learned with other settings; leave out {names}")

    def restore(priced: PricedModel, quantizers: Quantizers, reference: TorchEngine) -> Sequence[PolicyBits]:
        policy.check_fits(priced.trace.layers, model=priced.name)
        if finetuned or not is_runs_own or changed:
            return ()
        return _use_stored(run, policy, quantizers, reference)

    network = prepare_network(merged, restore=restore)
    if finetuned:
        network = _finetuned(run, policy, network)
    report = Evaluator(network.engine, network.task, "report", batch_size=merged.eval_batch)
    cost = _cost(network.priced, policy, asked="hardware" in config.model_fields_set)
    return {
        "model": network.priced.name,
        "hardware": network.priced.table.hardware,
        "metric": {"name": network.task.metric_name},
        "images": network.task.size("report"),
        "accuracy": report.evaluate(policy.w_bits, policy.a_bits).accuracy,
        "accuracy_fp32": report.accuracy_fp32,
        "cost": cost.model_dump(),
        "baseline_cost": CostSummary.of(network.priced.baseline).model_dump(),
        "warnings": _warnings(network.task, report.accuracy_fp32),
    }


def _warnings(task: Task, accuracy_fp32: float) -> list[str]:
    """What makes these figures doubtful."""
    if not isinstance(task, ClassificationTask):
        return []
    chance = chance_warning(accuracy_fp32, task.num_classes, task.size("report"))
    return [f"the float network's {chance}"] if chance else []


def _finetuned(run: RunDir, policy: Policy, network: Network) -> Network:
    """The network that was fine-tuned in a run, beside the float network that it came from."""
    priced = network.priced
    tuned = load_finetuned(run, priced.model, priced.trace, policy)
    engine = FinetunedEngine(priced.model, tuned, (policy.w_bits, policy.a_bits))
    return replace(network, engine=engine, engine_reason="torch, where it was fine-tuned")


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


def _use_stored(run: RunDir, policy: Policy, quantizers: Quantizers, reference: TorchEngine) -> Sequence[PolicyBits]:
    """Take quantizers and corrections from a run if it kept those of this policy, its own; answers their policy."""
    stored = run.load_tensors(QUANTIZERS)
    if stored is None:
        return ()
    tensors = {name: tensor.to(reference.device) for name, tensor in stored.items()}
    names, bits = tuple(layer.name for layer in policy.layers), (policy.w_bits, policy.a_bits)
    try:
        quantizers.load(tensors, *bits)
        corrections = Corrections.from_tensors(tensors, names)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{run.path / QUANTIZERS} does not fit the policy: {one_line(error)}; delete it") from error
    reference.store(bits, corrections)
    return (bits,)
