"""How accurate a policy file is."""

from pathlib import Path
from typing import Any

from haq.config import SearchConfig, search_config
from haq.corrections import Corrections
from haq.errors import UserError
from haq.evaluation import Evaluator
from haq.policy import CostSummary, Policy, load_policy
from haq.problem import Network, prepare_network
from haq.run_dir import CONFIG, POLICY, QUANTIZERS, RunDir
from haq.user_code import one_line

_DECIDE_QUANTIZERS = (
    "model",
    "weights",
    "data",
    "search_from",
    "search_images",
    "calibration_images",
    "normalize",
    "resize",
    "crop",
    "quantizer",
    "calibration",
    "corrections",
)


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
    network = prepare_network(merged)
    policy.check_fits(network.priced.trace.layers, model=network.priced.name)
    if settings and _same_quantizers(merged, search_config(**settings)):
        _use_stored(run, policy, network, device=merged.device)
    report = Evaluator(network.engine, network.task, "report", batch_size=merged.eval_batch)
    cost = network.priced.table.policy_cost(policy.w_bits, policy.a_bits)
    return {
        "model": network.priced.name,
        "hardware": network.priced.table.hardware,
        "metric": {"name": network.task.metric_name},
        "images": network.task.size("report"),
        "accuracy": report.evaluate(policy.w_bits, policy.a_bits).accuracy,
        "accuracy_fp32": report.accuracy_fp32,
        "cost": CostSummary.of(cost).model_dump(),
        "baseline_cost": CostSummary.of(network.priced.baseline).model_dump(),
    }


def _same_quantizers(ours: SearchConfig, theirs: SearchConfig) -> bool:
    """Whether everything that quantizers and corrections depend on is as it was in the run."""
    return all(getattr(ours, name) == getattr(theirs, name) for name in _DECIDE_QUANTIZERS)


def _use_stored(run: RunDir, policy: Policy, network: Network, *, device: str) -> None:
    """Take quantizers and corrections from a run if it kept those of this policy."""
    stored = run.load_tensors(QUANTIZERS)
    if stored is None or load_policy(run.path / POLICY).layers != policy.layers:
        return
    tensors = {name: tensor.to(device) for name, tensor in stored.items()}
    names = tuple(layer.name for layer in policy.layers)
    try:
        network.quantizers.load(tensors, policy.w_bits, policy.a_bits)
        corrections = Corrections.from_tensors(tensors, names)
    except (KeyError, ValueError, RuntimeError) as error:
        raise UserError(f"{run.path / QUANTIZERS} does not fit the policy: {one_line(error)}; delete it") from error
    network.engine.store((policy.w_bits, policy.a_bits), corrections)
