"""`haq explain`: explanation of the policy of a search, in sentences."""

from pathlib import Path
from typing import Annotated

import typer

from haq.cli.flags import MODEL_FLAGS, JsonFlag, with_config
from haq.cli.output import print_json, print_table, print_text, say
from haq.config import SearchConfig
from haq.reporting.explanation.explain import explain
from haq.reporting.explanation.findings import Explanation
from haq.reporting.explanation.sentences import sentences


@with_config(*MODEL_FLAGS, "data")
def explain_command(
    config: SearchConfig,
    run: Annotated[Path, typer.Argument(help="Folder of a finished search.", metavar="RUN")],
    robust: Annotated[
        bool, typer.Option("--robust", help="Also calibrate on other images and evaluate again.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Explain the policy that a search found.

    States what other bits could gain, what more budget is worth, which bits are free, and how far errors of the cost
    model matter.
    """
    found = explain(run, config=config, is_robust=robust, notify=say)
    if json:
        print_json(found.document())
        return
    for line in sentences(found):
        print_text(line)
    if found.free:
        _print_free(found)
    for note in found.notes:
        print_text(f"note: {note}")


def _print_free(found: Explanation) -> None:
    rows = [(each.layer, *(f"{w}/{a}" for w, a in (each.bits, each.most, each.least))) for each in found.free]
    print_table("bits at the same cost, weights/activations", ("layer", "has", "most", "fewest"), rows)
