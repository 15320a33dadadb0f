"""Tables of the costs of policies on several devices."""

from collections.abc import Sequence

from haq.cli.output import cost_text, print_table, print_text
from haq.costs.specialization import PolicyCost, Specialization
from haq.costs.unpriced import Refused
from haq.formatting import percent
from haq.tasks.metrics import metric_named
from hardware_sim.cost import Objective


def print_comparison(document: Specialization) -> None:
    """Print a row for each device for one policy, a matrix of policies by devices for several.

    Args:
        document: Costs of policies on devices.
    """
    if len(document.policies) == 1:
        _print_devices(document)
    else:
        _print_matrix(document)
    included = "included" if document.first_and_last_layer_included else "left out"
    print_text(f"of a whole batch; first and last layer {included}; %: of 8 bits everywhere on the same device")
    print_refused(document.refused)
    for policy, row in zip(document.policies, document.costs, strict=True):
        for device, cell in zip(document.devices, row, strict=True):
            if cell.refused:
                print_text(f"refused: {policy.name} on {device.hardware}: {cell.refused}")
    for device in document.devices:
        for note in device.notes:
            print_text(f"note: {device.hardware}: {note}")


def print_refused(refused: Sequence[Refused]) -> None:
    """Print the operations of the network that have no cost because they are left in float.

    Args:
        refused: These operations.
    """
    if refused:
        more = f"; and {len(refused) - 1} more, see haq layers" if len(refused) > 1 else ""
        print_text(f"not priced, left in float: {refused[0].name}: {refused[0].reason}{more}")


def _print_devices(document: Specialization) -> None:
    rows = [
        (
            device.hardware,
            str(device.batch),
            cost_text("latency", cell.latency_s),
            cost_text("latency", cell.latency_per_image_s),
            _share(cell.memory_bound),
            cost_text("energy", cell.energy_j),
            "refused" if cell.refused else _share(cell.ratio),
        )
        for device, cell in zip(document.devices, document.costs[0], strict=True)
    ]
    columns = (
        "device",
        "batch",
        "latency",
        "an image",
        "waiting\nfor memory",
        "energy",
        f"{document.objective}\nof 8 bits",
    )
    print_table(f"{document.model}, {document.policies[0].name}", columns, rows)


def _print_matrix(document: Specialization) -> None:
    objective = document.objective
    metrics = {policy.metric for policy in document.policies}
    columns = (
        "policy",
        "made for",
        metrics.pop() if len(metrics) == 1 else "score",
        *(f"{each.hardware} x{each.batch}" for each in document.devices),
    )
    rows = [
        (
            policy.name,
            policy.hardware or "-",
            "-" if policy.accuracy is None else metric_named(policy.metric).text(policy.accuracy),
            *(_cell(cell, objective) for cell in row),
        )
        for policy, row in zip(document.policies, document.costs, strict=True)
    ]
    print_table(f"{objective} of {document.model}", columns, rows, text_columns=2)


def _cell(cell: PolicyCost, objective: Objective) -> str:
    if cell.refused:
        return "refused"
    cost = cost_text(objective, cell.of(objective))
    return cost if cell.ratio is None else f"{cost}  {_share(cell.ratio):>7}"


def _share(fraction: float | None) -> str:
    return "-" if fraction is None else percent(fraction)
