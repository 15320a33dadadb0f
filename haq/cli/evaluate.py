"""`haq evaluate`: the accuracy of a policy on the report split, which is not used for any decision."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from haq.cli.flags import DATA_FLAGS, DEVICE_FLAGS, MODEL_FLAGS, QUANTIZER_FLAGS, JsonFlag, QuietFlag, with_config
from haq.cli.output import print_json, print_text, say, warn
from haq.cli.progress import shown_progress
from haq.config import SearchConfig
from haq.experiment.artifact import load_artifact
from haq.experiment.evaluate import evaluate_artifact
from haq.tasks.metrics import metric_in


@with_config(*MODEL_FLAGS, *DATA_FLAGS, *DEVICE_FLAGS, *QUANTIZER_FLAGS)
def evaluate(
    config: SearchConfig,
    policy: Annotated[
        Path,
        typer.Argument(help="Folder of a run, whose settings are used, or a policy file.", metavar="RUN|POLICY"),
    ],
    json: JsonFlag = False,
    quiet: QuietFlag = False,
) -> None:
    """Measure the accuracy of a policy on the report split."""
    with shown_progress(quiet=quiet or not sys.stderr.isatty()) as watcher:
        document = evaluate_artifact(load_artifact(policy, config, notify=say), progress=watcher.phase)
    for warning in document["warnings"]:
        warn(warning)
    if json:
        print_json(document)
        return
    metric, score, score_fp32 = metric_in(document), document["accuracy"], document["accuracy_fp32"]
    print_text(f"{metric.name} on {document['images']} report {metric.items}: {metric.text(score, digits=2)}")
    print_text(f"float: {metric.text(score_fp32, digits=2)}, change {metric.change_text(score - score_fp32)}")
    for name, value in document["details"].items():
        value_fp32 = document["details_fp32"][name]
        print_text(f"{name}: {metric.text(value, digits=2)}, float {metric.text(value_fp32, digits=2)}")
