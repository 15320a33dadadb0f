"""Commands that repeat a run, improve its policy and export it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from shlex import join
from typing import Any

from haq.config import SearchConfig
from haq.experiment.policy_source import FINETUNE, RECONSTRUCT
from haq.network.zoo import is_model_name
from haq.reporting.page.runs import ReportedRun

RUN = "RUN"
"""Stands for the folder of the run, so that equal runs in different folders give equal pages."""


@dataclass(frozen=True, slots=True)
class Command:
    """Command with its purpose.

    Attributes:
        purpose: What it does, as an imperative.
        text: The command, quoted for a shell.
    """

    purpose: str
    text: str


def commands(run: ReportedRun) -> Iterator[Command]:
    """List the commands that repeat a run and continue from its result.

    Args:
        run: The run.

    Yields:
        The commands.
    """
    is_search, is_linear = run.workflow == "search", run.config.quantizer == "linear"
    if is_model_name(run.config.model):
        yield Command("Repeat this run", repeat_text(run))
    yield Command("Measure the policy again", join(["haq", "evaluate", RUN]))
    if is_search:
        yield Command("Explain the policy", join(["haq", "explain", RUN]))
    source = f"{RUN}/policy.json" if run.config.episode_finetune_steps else RUN
    if is_search and is_linear:
        yield Command("Recover accuracy without labels", join(["haq", "reconstruct", source]))
    if run.workflow != "finetune":
        yield Command("Fine-tune", join(["haq", "finetune", source]))
    if is_linear:
        yield Command("Export", join(["haq", "export", RUN, "--format", "onnx"]))
        yield Command("Verify in all runtimes that are here", join(["haq", "verify", RUN]))


def repeat_text(run: ReportedRun) -> str:
    """Write the command that repeats a run.

    Args:
        run: The run.

    Returns:
        The command with all settings that differ from the defaults.
    """
    if run.workflow == "search":
        return join(["haq", "search", *_flags(run.config), "--out", RUN])
    group = FINETUNE if run.workflow == "finetune" else RECONSTRUCT
    learning = run.settings.get(group)
    settings = learning if isinstance(learning, dict) else {}
    named = {name: value for name, value in settings.items() if isinstance(value, str | int | float)}
    return join(["haq", run.workflow, "POLICY", *_flags(run.config), *_plain_flags(named), "--out", RUN])


def _flags(config: SearchConfig) -> Iterator[str]:
    """Yield the flags of all settings that differ from the defaults."""
    for name, field in SearchConfig.model_fields.items():
        value = getattr(config, name)
        if value == field.get_default(call_default_factory=True):
            continue
        if name == "budget" and config.max_accuracy_drop is not None:
            continue
        yield from _flag(name, value)


def _plain_flags(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        yield from _flag(name, value)


def _flag(name: str, value: Any) -> Iterator[str]:
    """Yield a flag with its value, as the command line reads it."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        yield flag if value else f"--no-{name.replace('_', '-')}"
        return
    if name == "first_last_bits" and value is None:
        value = "free"
    if name == "input":
        value = "x".join(map(str, value))
    texts = [f"{key}={each}" for key, each in value.items()] if isinstance(value, dict) else value
    for text in texts if isinstance(texts, list | tuple) else [texts]:
        yield from (flag, str(text))
