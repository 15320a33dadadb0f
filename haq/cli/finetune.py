"""`haq finetune`: quantization-aware training of a network with a policy."""

from pathlib import Path
from typing import Annotated

import typer

from haq.cli.flags import (
    DATA_FLAGS,
    MODEL_FLAGS,
    JsonFlag,
    OutFolder,
    QuietFlag,
    ResumeFlag,
    with_config,
    with_settings,
)
from haq.cli.folders import default_out, resumable
from haq.cli.output import draw_figures, print_json, print_learned, print_text, say, warn
from haq.cli.policies import FloatFlag, PolicyArgument, policy_name, policy_or_bits
from haq.cli.progress import shown_progress
from haq.config import SearchConfig
from haq.experiment.learning_request import learning_request
from haq.finetuning.finetune import FinetuneResult, finetune_configured
from haq.formatting import counted
from haq.quantization.training.config import FinetuneConfig, finetune_config

UNIFORM_BITS = 4


@with_config(*MODEL_FLAGS, *DATA_FLAGS, "hardware", "deploy", "first_last_bits", "pin", "device", "seed")
@with_settings("learning", FinetuneConfig, finetune_config, heading="Training")
def finetune(
    config: SearchConfig,
    learning: FinetuneConfig,
    *,
    policy: PolicyArgument = None,
    w_bits: Annotated[int | None, typer.Option(help="Uniform bits of weights.", show_default=str(UNIFORM_BITS))] = None,
    a_bits: Annotated[
        int | None, typer.Option(help="Uniform bits of activations.", show_default=str(UNIFORM_BITS))
    ] = None,
    is_float: FloatFlag = False,
    out: OutFolder = None,
    resume: ResumeFlag = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Train a network with its quantizers (QAT).

    Weights, scales and shifts of all quantizers are trained on the train split.
    """
    chosen = policy_or_bits(policy, (w_bits, a_bits), default=(UNIFORM_BITS, UNIFORM_BITS), is_float=is_float)
    request = learning_request(chosen, config, learning, notify=say)
    path = out or default_out("finetune", request.config.model, policy_name(chosen), f"s{request.config.seed}")
    with resumable(path, kept="all completed epochs are"), shown_progress(quiet=quiet) as watcher:
        result = finetune_configured(request, path, resume=resume, watcher=watcher)
    if not result.is_first:
        return
    draw_figures(path)
    for warning in result.summary.warnings:
        warn(warning)
    if json:
        print_json(result.summary.model_dump(mode="json"))
    else:
        print_result(result, path)


def print_result(result: FinetuneResult, path: Path) -> None:
    """Print the accuracy in float, quantized before the training, and fine-tuned.

    Args:
        result: Result of the fine-tuning.
        path: Folder of the run.
    """
    summary = result.summary
    print_learned(summary, "fine-tuned", title=f"{summary.mean_weight_bits:.3g} mean weight bits")
    print_text(f"{counted(summary.epochs, 'epoch')}, {counted(summary.steps, 'step')}, {summary.seconds:.0f} s")
    print_text(f"files in {path}")
