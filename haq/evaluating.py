"""How accurate a policy file is."""

from pathlib import Path
from typing import Any

from haq.config import SearchConfig, search_config
from haq.corrections import Corrections
from haq.evaluation import Evaluator
from haq.policy import CostSummary, load_policy
from haq.problem import prepare_network
from haq.run_dir import CONFIG, POLICY, QUANTIZERS, RunDir


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
    stored = run.load_tensors(QUANTIZERS) if settings else None
    if stored is not None and load_policy(run.path / POLICY).layers == policy.layers:
        network.quantizers.load(stored, policy.w_bits, policy.a_bits)
        names = tuple(layer.name for layer in policy.layers)
        network.engine.store((policy.w_bits, policy.a_bits), Corrections.from_tensors(stored, names))
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
