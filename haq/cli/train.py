"""`haq train`: training of a float network."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from haq.cli.flags import DATA_FLAGS, MODEL_FLAGS, JsonFlag, QuietFlag, with_config, with_settings
from haq.cli.output import print_json, print_text
from haq.cli.progress import shown_progress
from haq.config import SearchConfig
from haq.formatting import counted
from haq.training.config import TrainingConfig, training_config
from haq.training.train import TrainingResult, train_configured


@with_config(*MODEL_FLAGS, *DATA_FLAGS, "device", "seed")
@with_settings("learning", TrainingConfig, training_config, heading="Training")
def train(
    config: SearchConfig,
    learning: TrainingConfig,
    *,
    out: Annotated[Path, typer.Option(help="File of weights to write, .safetensors, in an existing folder.")],
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Train a float network, such as a language model.

    The weights of the epoch with the best score on the search split are kept. Networks with a state are trained by
    truncated back-propagation through time.
    """
    with shown_progress(quiet=quiet) as watcher:
        result = train_configured(config, learning, out, watcher=watcher)
    if json:
        names = {"model": config.model, "seed": config.seed, "path": str(out)}
        print_json({**names, **asdict(result), "metric": result.metric.name})
    else:
        _print_result(result, out)


def _print_result(result: TrainingResult, path: Path) -> None:
    scores = [result.metric.text(score, digits=2) for score in (result.search_accuracy, result.accuracy)]
    print_text(f"{result.metric.name}: search split {scores[0]}, report split {scores[1]}")
    print_text(f"{counted(len(result.epochs), 'epoch')}, {result.seconds:.0f} s; weights in {path}")
