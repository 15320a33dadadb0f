"""`haq finetune`: a network learns to live with a policy."""

from pathlib import Path
from typing import Annotated, Any

import typer

from haq.cli.flags import DATA_FLAGS, MODEL_FLAGS, RUN_OR_POLICY, JsonFlag, QuietFlag, with_config
from haq.cli.output import draw_figures, print_json, print_learned, print_text, say, say_command, warn
from haq.cli.progress import shown_progress
from haq.cli.search import resume_command
from haq.config import SearchConfig
from haq.errors import UserError
from haq.experiment.learning_request import PolicyLike, learning_request
from haq.experiment.run_settings import policy_path
from haq.finetuning.running import FinetuneResult, finetune_configured
from haq.quantization.training.config import (
    Augmentation,
    FinetuneConfig,
    Learning,
    OptimizerName,
    Oscillation,
    Precision,
    finetune_config,
)
from haq.quantization.training.initialization import LearnedShift
from haq.runs.run_folder import safe_name

UNIFORM_BITS = 4


def _flag(name: str, *names: str) -> Any:
    field = FinetuneConfig.model_fields[name]
    shown = False if field.default is None else str(field.default)
    return typer.Option(*names, help=field.description, show_default=shown)


@with_config(*MODEL_FLAGS, *DATA_FLAGS, "hardware", "first_last_bits", "pin", "device", "seed")
def finetune(
    config: SearchConfig,
    *,
    policy: Annotated[Path | None, RUN_OR_POLICY] = None,
    w_bits: Annotated[int | None, typer.Option(help="Bits of all weights.", show_default=str(UNIFORM_BITS))] = None,
    a_bits: Annotated[int | None, typer.Option(help="Bits of all activations.", show_default=str(UNIFORM_BITS))] = None,
    is_float: Annotated[bool, typer.Option("--float", help="Leave all in float: the control of a comparison.")] = False,
    epochs: Annotated[int | None, _flag("epochs")] = None,
    lr: Annotated[float | None, _flag("lr")] = None,
    scale_lr: Annotated[float | None, _flag("scale_lr")] = None,
    optimizer: Annotated[OptimizerName | None, _flag("optimizer")] = None,
    batch_size: Annotated[int | None, _flag("batch_size")] = None,
    weight_decay: Annotated[float | None, _flag("weight_decay")] = None,
    max_gradient_norm: Annotated[float | None, _flag("max_gradient_norm")] = None,
    shift: Annotated[LearnedShift | None, _flag("shift")] = None,
    learn: Annotated[Learning | None, _flag("learn")] = None,
    teacher: Annotated[bool | None, _flag("teacher", "--teacher/--no-teacher")] = None,
    teacher_weight: Annotated[float | None, _flag("teacher_weight")] = None,
    oscillation: Annotated[Oscillation | None, _flag("oscillation")] = None,
    dampening: Annotated[float | None, _flag("dampening")] = None,
    ema: Annotated[float | None, _flag("ema")] = None,
    augment: Annotated[Augmentation | None, _flag("augment")] = None,
    norm_images: Annotated[int | None, _flag("norm_images")] = None,
    precision: Annotated[Precision | None, _flag("precision")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="results/...")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, if there is one.")] = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Train a network with a policy on it: weights, and the scales and shifts of all quantizers."""
    given = {name: value for name, value in locals().items() if name in FinetuneConfig.model_fields}
    learning = finetune_config(**{name: value for name, value in given.items() if value is not None})
    request = learning_request(_policy(policy, w_bits, a_bits, is_float=is_float), config, learning, notify=say)
    path = out or default_out(request.config, policy, (w_bits, a_bits), is_float=is_float)
    try:
        with shown_progress(quiet=quiet) as watcher:
            result = finetune_configured(request, path, resume=resume, watcher=watcher)
    except KeyboardInterrupt:
        kept = f"all whole epochs are in {path}" if path.is_dir() else "nothing was written yet"
        say_command(f"stopped; {kept}. Go on with:", resume_command(path))
        raise
    if not result.is_first:
        return
    draw_figures(path)
    for warning in result.summary["warnings"]:
        warn(warning)
    if json:
        print_json(dict(result.summary))
    else:
        print_result(result, path)


def _policy(path: Path | None, w_bits: int | None, a_bits: int | None, *, is_float: bool) -> PolicyLike:
    ways = {
        "a policy file": path is not None,
        "--w-bits, --a-bits": (w_bits, a_bits) != (None, None),
        "--float": is_float,
    }
    chosen = [name for name, is_given in ways.items() if is_given]
    if len(chosen) > 1:
        raise UserError(f"{' and '.join(chosen)} contradict each other; give one of them")
    if path is not None:
        return path
    if is_float:
        return None, None
    return UNIFORM_BITS if w_bits is None else w_bits, UNIFORM_BITS if a_bits is None else a_bits


def default_out(
    config: SearchConfig, policy: Path | None, bits: tuple[int | None, int | None], *, is_float: bool
) -> Path:
    """results/finetune-<model>-<policy>-s<seed>, safe as a file name."""
    uniform = f"w{bits[0] or UNIFORM_BITS}a{bits[1] or UNIFORM_BITS}"
    name = "float" if is_float else uniform if policy is None else policy_path(policy).resolve().parent.name
    text = f"finetune-{config.model}-{name}-s{config.seed}"
    return Path("results") / safe_name(text)


def print_result(result: FinetuneResult, path: Path) -> None:
    """Float, quantized before learning, and fine-tuned."""
    summary = result.summary
    print_learned(summary, "fine-tuned", title=f"{summary['mean_weight_bits']:.3g} mean weight bits")
    print_text(f"{summary['epochs']} epochs, {summary['steps']} steps, {summary['seconds']:.0f} s")
    print_text(f"files in {path}")
