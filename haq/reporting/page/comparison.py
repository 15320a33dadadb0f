"""Comparisons for the page: of a policy on several devices, and of several runs."""

from collections.abc import Iterator, Sequence

from haq.costs.deployment import deployment_target
from haq.costs.pricing import PricedLayers
from haq.costs.specialization import Candidate, PricedNetwork, Specialization, specialization
from haq.errors import UserError
from haq.formatting import device_title, format_cost, model_title, percent
from haq.reporting.page.figures import PageFigure, page_figure
from haq.reporting.page.runs import ReportedRun
from haq.reporting.plots.pareto import plot_pareto
from haq.reporting.plots.policies import plot_policies
from haq.reporting.plots.specialization import plot_specialization
from haq.studies.pareto.fronts import fronts
from haq.studies.pareto.records import SweepDocument, SweepRecord
from haq.tables import Table
from hardware_sim.accelerator import Accelerator
from hardware_sim.bit_fusion import BitFusion
from hardware_sim.catalog import device_names, load_accelerator

LONGEST_REASON = 90
"""Characters of a refusal in a table."""


def quick_devices() -> tuple[str, ...]:
    """Return the names of the shipped devices that price a network in milliseconds.

    The costs of BitFusion follow from a search of schedules, which takes seconds.

    Returns:
        The names, sorted.
    """
    return tuple(name for name in device_names() if not isinstance(load_accelerator(name), BitFusion))


def devices_table(run: ReportedRun, devices: Sequence[str]) -> Table | None:
    """Price the policy of a run on several devices.

    Args:
        run: The run.
        devices: Names or files of devices; that of the run is added.

    Returns:
        A row for each device, that of the run first; None for a run without costs, or without other devices.

    Raises:
        DescriptionError: A device does not exist, or its file is invalid.
    """
    own = device_title(run.config.hardware)
    others = [device for device in map(load_accelerator, devices) if device.name != own]
    if run.priced is None or not others:
        return None
    matrix = _matrix([run], others)
    rows = [_own_row(run, run.priced, own)]
    for device, cost in zip(matrix.devices, matrix.costs[0], strict=True):
        if cost.refused:
            rows.append((device.hardware, "", "", "", cost.refused[:LONGEST_REASON]))
            continue
        waiting = "" if cost.memory_bound is None else percent(cost.memory_bound)
        ratio = "" if cost.ratio is None else percent(cost.ratio)
        rows.append((device.hardware, format_cost(run.objective, cost.of(run.objective)), ratio, waiting, ""))
    columns = ("device", run.objective, "of 8 bits there", "waiting for memory", "refused")
    used = [place for place in range(len(columns)) if place == 0 or any(row[place] for row in rows)]
    return Table(columns, tuple(rows)).select_columns(used)


def _own_row(run: ReportedRun, priced: PricedLayers, name: str) -> tuple[str, ...]:
    """Return the row of the device that the policy was searched for."""
    cost, baseline = run.summary.cost.value(run.objective), run.summary.baseline_cost.value(run.objective)
    ratio = percent(cost / baseline) if cost is not None and baseline else ""
    table, bits = priced.table, list(zip(run.policy.w_bits, run.policy.a_bits, strict=True))
    waiting = ""
    if table.compute_bound is not None and table.latency_s is not None:
        latency_s = [table.layer_cost(place, *pair).latency_s or 0.0 for place, pair in enumerate(bits)]
        is_waiting = [table.bound(place, *pair) == "memory" for place, pair in enumerate(bits)]
        waited = sum(each for each, waits in zip(latency_s, is_waiting, strict=True) if waits)
        waiting = percent(waited / (sum(latency_s) or 1.0))
    return (f"{name} (searched for)", format_cost(run.objective, cost), ratio, waiting, "")


def runs_table(runs: Sequence[ReportedRun]) -> Table:
    """Compare the results of several runs.

    Args:
        runs: The runs.

    Returns:
        A row for each run.
    """
    rows = []
    for run in runs:
        summary, metric = run.summary, run.metric
        cost, baseline = summary.cost.value(run.objective), summary.baseline_cost.value(run.objective)
        uniform = None if run.search is None else run.search.best_uniform
        budget = None if run.search is None or run.search.max_accuracy_drop else run.search.budget[0]
        rows.append(
            (
                run.label,
                run.workflow,
                model_title(run.policy.model),
                device_title(run.config.hardware),
                f"{run.objective} {format_cost(run.objective, cost)}",
                percent(cost / baseline) if cost is not None and baseline else "",
                "" if budget is None else percent(budget.ratio),
                f"{metric.name} {metric.text(summary.accuracy, digits=2)}",
                metric.change_text(summary.accuracy - summary.accuracy_fp32),
                "" if uniform is None else metric.change_text(summary.accuracy - uniform.accuracy),
            )
        )
    columns = (
        "run",
        "kind",
        "network",
        "device",
        "cost",
        "of 8 bits",
        "budget",
        "score",
        "against float",
        "against uniform bits",
    )
    return Table(columns, tuple(rows), text_columns=4)


def pareto_figure(runs: Sequence[ReportedRun], name: str) -> PageFigure | None:
    """Draw scores over costs of searches of one network, beside those of uniform bits.

    Args:
        runs: The runs; others than searches are left out.
        name: Name that is unique on the page.

    Returns:
        The figure; None without searches, or for searches of several networks or metrics.
    """
    records = [_record(run) for run in runs if run.search is not None]
    if not records or len({run.policy.model for run in runs}) > 1 or len({each.metric for each in records}) > 1:
        return None
    found = fronts(records)
    if not found:
        return None
    document = SweepDocument(
        config={"model": runs[0].config.model},
        devices=tuple(dict.fromkeys(each.hardware for each in records)),
        objectives=tuple(dict.fromkeys(each.objective for each in records)),
        seeds=len({each.seed for each in records}),
        records=tuple(records),
        fronts=tuple(found),
    )
    figure = plot_pareto(document, title="Score over cost")
    several = f"{len(records)} searches" if len(records) > 1 else "the policy"
    alt = f"Score of {several} and of uniform bits over their costs; the tables have the same numbers."
    caption = (
        "Up and left is better. Uniform bits are those within the budgets; their bits are written as weights/input, or "
        "once where both are equal."
    )
    return page_figure(figure, name=name, alt=alt, caption=caption)


def policies_figures(runs: Sequence[ReportedRun], name: str) -> Iterator[PageFigure]:
    """Draw the bits of several runs of one network, and their costs on the devices of all.

    Args:
        runs: The runs.
        name: Prefix of names that are unique on the page.

    Yields:
        The figures; none for runs of different networks.
    """
    layers = [[(each.name, each.kind) for each in run.policy.layers] for run in runs]
    if any(each != layers[0] for each in layers):
        return
    figure = plot_policies({run.label: run.policy for run in runs}, title="Bits of every layer, by run")
    alt = f"Bits of {len(layers[0])} layers in {len(runs)} runs; each run has a table of its bits below."
    yield page_figure(figure, name=f"{name}-bits", alt=alt, caption="A row for each run.", is_themed=False)
    devices = list(dict.fromkeys(device_title(run.config.hardware) for run in runs))
    if any(run.priced is None for run in runs) or len({run.objective for run in runs}) > 1 or len(devices) < 2:
        return
    accelerators = {device_title(run.config.hardware): load_accelerator(run.config.hardware) for run in runs}
    try:
        figure = plot_specialization(_matrix(runs, list(accelerators.values())), title="Policies on all devices")
    except UserError:  # no device can run any of them
        return
    alt = f"{runs[0].objective} of {len(runs)} policies on {len(devices)} devices."
    caption = "How much more each policy costs than the cheapest one in the column; a frame marks its own device."
    yield page_figure(figure, name=f"{name}-devices", alt=alt, caption=caption, is_themed=False)


def _matrix(runs: Sequence[ReportedRun], devices: Sequence[Accelerator]) -> Specialization:
    """Price the policies of runs of one network on devices, each with the batch of the first run or its own."""
    first = runs[0]
    assert first.priced is not None
    network = PricedNetwork(
        model=first.config.model,
        layers=first.priced.layers,
        refused=first.priced.refused,
        objective=first.objective,
        batch=first.config.batch,
        target=deployment_target(first.config),
    )
    candidates = [
        Candidate(
            run.label,
            run.policy.layers,
            device_title(run.config.hardware),
            run.summary.accuracy,
            run.metric.name,
        )
        for run in runs
    ]
    return specialization(network, candidates, devices)


def _record(run: ReportedRun) -> SweepRecord:
    """Return the results of a search as the record of a sweep."""
    summary = run.search
    assert summary is not None
    return SweepRecord(
        hardware=device_title(run.config.hardware),
        objective=summary.objective,
        budget=run.config.budget[0],
        budget_ratio=summary.budget[0].ratio,
        seed=run.config.seed,
        episodes=summary.episodes,
        new_evaluations=summary.evaluations,
        cost=summary.cost,
        baseline_cost=summary.baseline_cost,
        cost_ratio=summary.cost_ratio,
        accuracy=summary.accuracy,
        accuracy_fp32=summary.accuracy_fp32,
        search_accuracy=summary.search_accuracy,
        report_images=summary.report_images,
        metric=summary.metric.name,
        uniform=summary.uniform,
        w_bits=tuple(bits or 8 for bits in run.policy.w_bits),
        a_bits=tuple(bits or 8 for bits in run.policy.a_bits),
        run=run.label,
    )
