"""Reconstruction as a function: from a network and a policy to quantizers that give back what the network answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from torch import Tensor

from haq.config import SearchConfig
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.execution.progress import SILENT, Watcher
from haq.execution.user_code import caller_kept
from haq.experiment.inputs import Inputs
from haq.experiment.loading import task_options
from haq.experiment.problem import Network, prepare_network
from haq.experiment.run_settings import RECONSTRUCT, keep_source
from haq.experiment.starting_point import bits_asked, policy_for
from haq.network.tracing.unwrapping import unwrapped
from haq.network.zoo import load_model
from haq.policy import Policy
from haq.reconstruction.config import ReconstructionConfig
from haq.reconstruction.learned import learn_policy
from haq.runs.environment import describe_environment
from haq.runs.run_folder import POLICY, QUANTIZERS, SUMMARY, RunFolder
from haq.tasks import load_task
from haq.tasks.base import SplitName
from hardware_sim.cost import Bits

QUANTIZER_SETTINGS = ("calibration", "zero_points", "rounding", "corrections", "engine")
"""Settings of a run that hold when its policy is reconstructed, beside those of network, data and device."""


@dataclass(frozen=True, slots=True)
class ReconstructionResult:
    """The policy, what it is worth, and its folder if it was given one."""

    policy: Policy
    summary: Mapping[str, Any]
    path: Path | None


@dataclass(frozen=True, slots=True)
class Asked:
    """All that decides what comes of a reconstruction."""

    config: SearchConfig
    """Network, data, quantizers and device; budgets and agents mean nothing here."""
    learning: ReconstructionConfig
    policy: Policy | tuple[Bits, Bits]
    example: Tensor | None = field(default=None, compare=False)
    """The input that the network is traced with; the first calibration input where it is None."""

    def document(self) -> dict[str, Any]:
        """What `config.json` holds."""
        return {
            **self.config.model_dump(mode="json"),
            RECONSTRUCT: self.learning.model_dump(mode="json"),
            "bits": bits_asked(self.policy),
        }


def reconstruct_configured(
    asked: Asked, path: Path, *, inputs: Inputs | None = None, watcher: Watcher = SILENT
) -> ReconstructionResult:
    """The reconstruction that was asked for, kept in a folder that is written at the end; see `reconstruct`."""
    config, inputs = asked.config, inputs or Inputs()
    _require_rounding(config)
    with caller_kept(inputs.model), RunFolder.opened(path, asked.document()):
        return _reconstructed(asked, path, inputs, watcher)


def _reconstructed(asked: Asked, path: Path, inputs: Inputs, watcher: Watcher) -> ReconstructionResult:
    config, began = asked.config, monotonic()
    model = load_model(config.model, weights=config.weights) if inputs.model is None else unwrapped(inputs.model)
    task = load_task(config.data, model=model, options=task_options(config)) if inputs.task is None else inputs.task
    in_torch = config.model_copy(update={"engine": "torch"})
    network = prepare_network(in_torch, model=model, task=task, example=asked.example, progress=watcher.phase)
    policy = policy_for(asked.policy, config, network.priced)
    bits = (policy.w_bits, policy.a_bits)
    watcher.phase("search accuracy")
    start = _evaluator(network, config, "search").evaluate(*bits)
    learned = learn_policy(network, bits, config=asked.learning, seed=config.seed, watcher=watcher)
    watcher.phase("report")
    final = prepare_network(config, model=model, task=task, example=asked.example, restore=learned.restore)
    summary = {**_summary(final, config, policy), "search_accuracy_start": start.accuracy}
    summary |= {"search_divergence_start": start.divergence, "seconds": round(monotonic() - began, 3)}
    accuracy = {
        "search": summary["search_accuracy"],
        "fp32_search": summary["search_accuracy_fp32"],
        "report": summary["accuracy"],
        "fp32_report": summary["accuracy_fp32"],
    }
    policy = policy.model_copy(update={"accuracy": accuracy})
    run = RunFolder.create(path, asked.document(), describe_environment(seed=config.seed, device=config.device))
    keep_source(run, config, final.priced.trace, task.example() if asked.example is None else asked.example)
    run.save_tensors(QUANTIZERS, learned.tensors([layer.name for layer in policy.layers]))
    run.write(POLICY, policy.to_json().encode())
    run.write_json(SUMMARY, summary)
    return ReconstructionResult(policy, summary, path)


def _require_rounding(config: SearchConfig) -> None:
    if config.quantizer != "linear":
        raise UserError(f"{config.quantizer} codebooks have no rounding to learn; use --quantizer linear")
    if config.episode_finetune_steps:
        raise UserError(
            "--episode-finetune-steps trains weights, which a reconstruction leaves as they are; leave it out"
        )


def _evaluator(network: Network, config: SearchConfig, split: SplitName) -> Evaluator:
    return Evaluator(network.engine, network.task, split, batch_size=config.eval_batch)


def _summary(network: Network, config: SearchConfig, policy: Policy) -> dict[str, Any]:
    """What the policy is worth on both splits; the report split took no part in any decision."""
    search, report = (_evaluator(network, config, split) for split in ("search", "report"))
    on_search, on_report = (each.evaluate(policy.w_bits, policy.a_bits) for each in (search, report))
    task = network.task
    return {
        "metric": task.metric.record(on_report.accuracy),
        "accuracy_fp32": report.accuracy_fp32,
        "accuracy": on_report.accuracy,
        "divergence": on_report.divergence,
        "search_accuracy_fp32": search.accuracy_fp32,
        "search_accuracy": on_search.accuracy,
        "search_divergence": on_search.divergence,
        "report_images": task.size("report"),
        "search_images": task.size("search"),
        "calibration_images": task.size("calibration"),
        "engine": network.engine_reason,
        "cost": policy.cost.model_dump(),
        "baseline_cost": policy.baseline_cost.model_dump(),
    }
