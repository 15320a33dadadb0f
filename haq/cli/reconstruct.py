"""`haq reconstruct`: a policy learns, from calibration images alone, to answer as the float network does."""

from pathlib import Path
from typing import Annotated, Any

import typer

from haq.cli.flags import DATA_FLAGS, MODEL_FLAGS, RUN_OR_POLICY, JsonFlag, QuietFlag, with_config
from haq.cli.output import print_json, print_learned, print_text, say
from haq.cli.progress import shown_progress
from haq.config import SearchConfig
from haq.errors import UserError
from haq.experiment.learning_request import learning_request
from haq.experiment.run_settings import policy_path
from haq.reconstruction.config import ReconstructionConfig, reconstruction_config
from haq.reconstruction.running import QUANTIZER_SETTINGS, ReconstructionResult, reconstruct_configured
from haq.runs.run_folder import safe_name

W_BITS, A_BITS = 4, 8


def _flag(name: str) -> Any:
    field = ReconstructionConfig.model_fields[name]
    return typer.Option(help=field.description, show_default=str(field.default))


@with_config(
    *MODEL_FLAGS,
    *DATA_FLAGS,
    *("hardware", "first_last_bits", "pin"),
    *("calibration", "zero_points", "rounding", "corrections", "engine", "device", "seed"),
)
def reconstruct(
    config: SearchConfig,
    *,
    policy: Annotated[Path | None, RUN_OR_POLICY] = None,
    w_bits: Annotated[int | None, typer.Option(help="Bits of all weights.", show_default=str(W_BITS))] = None,
    a_bits: Annotated[int | None, typer.Option(help="Bits of all activations.", show_default=str(A_BITS))] = None,
    steps: Annotated[int | None, _flag("steps")] = None,
    batch_size: Annotated[int | None, _flag("batch_size")] = None,
    code_lr: Annotated[float | None, _flag("code_lr")] = None,
    scale_lr: Annotated[float | None, _flag("scale_lr")] = None,
    bias_lr: Annotated[float | None, _flag("bias_lr")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run.", show_default="results/...")] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Learn the rounding, scales and biases of a policy from what the float network answers to calibration images."""
    given = {name: value for name, value in locals().items() if name in ReconstructionConfig.model_fields}
    learning = reconstruction_config(**{name: value for name, value in given.items() if value is not None})
    if policy is not None and (w_bits, a_bits) != (None, None):
        raise UserError("a policy file and --w-bits, --a-bits contradict each other; give one of them")
    bits = (W_BITS if w_bits is None else w_bits, A_BITS if a_bits is None else a_bits)
    request = learning_request(policy or bits, config, learning, inherited=QUANTIZER_SETTINGS, notify=say)
    path = out or default_out(request.config, policy, bits)
    with shown_progress(quiet=quiet) as watcher:
        result = reconstruct_configured(request, path, watcher=watcher)
    if json:
        print_json(dict(result.summary))
    else:
        print_result(result, path)


def default_out(config: SearchConfig, policy: Path | None, bits: tuple[int, int]) -> Path:
    """results/reconstruct-<model>-<policy>-s<seed>, safe as a file name."""
    name = f"w{bits[0]}a{bits[1]}" if policy is None else policy_path(policy).resolve().parent.name
    text = f"reconstruct-{config.model}-{name}-s{config.seed}"
    return Path("results") / safe_name(text)


def print_result(result: ReconstructionResult, path: Path) -> None:
    """Float, quantized before learning, and reconstructed."""
    summary = result.summary
    print_learned(summary, "reconstructed", title=f"{summary['calibration_images']} calibration images")
    print_text(f"{summary['seconds']:.0f} s, files in {path}")
