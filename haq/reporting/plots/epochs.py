"""Figure of a fine-tuning run: loss and accuracy of every epoch."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from haq.finetuning.journal import Epoch, Summary, epochs
from haq.policy import load_policy
from haq.reporting.plots.style import BLUE, HEADER_INCHES, MUTED, VERMILION, add_header, house_style, new_figure
from haq.runs.records import Count, Record, checked
from haq.runs.run_folder import CONFIG, POLICY, SUMMARY, RunFolder
from haq.tasks.metrics import metric_of

_REMEDY = "make the run again in another --out"


class _Config(Record):
    seed: Count


def plot_finetuning(path: Path, *, title: str | None = None) -> Figure:
    """Draw the epochs of a finished fine-tuning run.

    Args:
        path: Folder of the run.
        title: Title of the figure; network, bits and seed if None.

    Returns:
        The figure.

    Raises:
        UserError: Files of the run are missing or damaged.
    """
    run = RunFolder(path)
    summary = checked(Summary, run.read_json(SUMMARY) or {}, path / SUMMARY, remedy=_REMEDY)
    config = checked(_Config, run.read_json(CONFIG) or {}, path / CONFIG, remedy=_REMEDY)
    model = load_policy(path / POLICY).model
    named = f"{model}, {summary.mean_weight_bits:.3g} weight bits, seed {config.seed}"
    return plot_epochs(epochs(run), summary, title=title or named)


def plot_epochs(records: Sequence[Epoch], summary: Summary, *, title: str) -> Figure:
    """Draw the loss, and below it the scores on the train and search splits with that of the float network.

    Args:
        records: The epochs.
        summary: Summary of the run.
        title: Title of the figure.

    Returns:
        The figure.
    """
    metric = metric_of(summary.metric)
    with house_style():
        figure = new_figure(6.0, 4.2, top=HEADER_INCHES)
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 1.6))
        numbers = [record.epoch for record in records]
        upper.plot(numbers, [record.loss for record in records], color=VERMILION, marker="o", markersize=3)
        upper.set_ylabel("loss")
        train, search = ([record.train_accuracy for record in records], [record.search_accuracy for record in records])
        for accuracies, label, colour in ((train, "train", MUTED), (search, "search split", BLUE)):
            values = [metric.plotted(accuracy) for accuracy in accuracies]
            lower.plot(numbers, values, color=colour, marker="o", markersize=3, label=label)
        lower.axhline(
            metric.plotted(summary.search_accuracy_fp32), color=MUTED, linestyle=(0, (4, 2)), label="float before"
        )
        lower.set_ylabel(f"{metric.name}, %" if metric.is_percent else metric.name)
        lower.set_xlabel("epoch")
        lower.xaxis.set_major_locator(MaxNLocator(integer=True))
        lower.legend(loc="lower right")
        reached = f"report split: {metric.text(summary.accuracy, digits=2)}, "
        add_header(figure, title, reached + f"float before {metric.text(summary.accuracy_fp32, digits=2)}")
    return figure
