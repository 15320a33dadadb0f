"""`haq reconstruct`: quantizers fitted to the outputs of the float network, without labels."""

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
from haq.cli.output import print_json, print_learned, print_text, say
from haq.cli.policies import PolicyArgument, policy_name, policy_or_bits
from haq.cli.progress import shown_progress
from haq.config import SearchConfig
from haq.experiment.learning_request import learning_request
from haq.reconstruction.config import ReconstructionConfig, reconstruction_config
from haq.reconstruction.reconstruct import QUANTIZER_SETTINGS, ReconstructionResult, reconstruct_configured
from haq.tasks.metrics import metric_of

W_BITS, A_BITS = 4, 8


@with_config(
    *MODEL_FLAGS,
    *DATA_FLAGS,
    *("hardware", "deploy", "first_last_bits", "pin"),
    *("calibration", "zero_points", "rounding", "corrections", "engine", "device", "seed"),
)
@with_settings("learning", ReconstructionConfig, reconstruction_config, heading="Reconstruction")
def reconstruct(
    config: SearchConfig,
    learning: ReconstructionConfig,
    *,
    policy: PolicyArgument = None,
    w_bits: Annotated[int | None, typer.Option(help="Uniform bits of weights.", show_default=str(W_BITS))] = None,
    a_bits: Annotated[int | None, typer.Option(help="Uniform bits of activations.", show_default=str(A_BITS))] = None,
    out: OutFolder = None,
    resume: ResumeFlag = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Fit quantizers to the float outputs, without labels.

    Rounding, scales and biases of a policy are trained on calibration images.
    """
    chosen = policy_or_bits(policy, (w_bits, a_bits), default=(W_BITS, A_BITS))
    request = learning_request(chosen, config, learning, inherited=QUANTIZER_SETTINGS, notify=say)
    path = out or default_out("reconstruct", request.config.model, policy_name(chosen), f"s{request.config.seed}")
    with resumable(path, kept="the last checkpoint is"), shown_progress(quiet=quiet) as watcher:
        result = reconstruct_configured(request, path, resume=resume, watcher=watcher)
    if json:
        print_json(result.summary.model_dump(mode="json"))
    else:
        print_result(result, path)


def print_result(result: ReconstructionResult, path: Path) -> None:
    """Print the accuracy in float, quantized before the reconstruction, and reconstructed.

    Args:
        result: Result of the reconstruction.
        path: Folder of the run.
    """
    summary, items = result.summary, metric_of(result.summary.metric).items
    print_learned(summary, "reconstructed", title=f"{summary.calibration_images} calibration {items}")
    print_text(f"{summary.seconds:.0f} s, files in {path}")
