"""Tables of policies and of the differences between two."""

from collections.abc import Iterator, Sequence
from typing import Any

from haq.cli.output import cost_text, print_table, print_text
from haq.formatting import counted, device_title, format_cost, model_title
from haq.layer_bits import Granularity, LayerBits
from haq.policy import Policy
from hardware_sim.cost import OBJECTIVES, Bits

Names = tuple[str, str]


def print_policy(policy: Policy) -> None:
    """Print the layers of a policy, its cost, accuracy and budget.

    Args:
        policy: The policy.
    """
    rows = [
        (
            layer.name,
            layer.kind,
            _quantizer(layer.w_signed, layer.w_granularity),
            _quantizer(layer.a_signed, layer.a_granularity),
            _bits(layer.w_bits),
            _bits(layer.a_bits),
        )
        for layer in policy.layers
    ]
    device = "no device" if policy.hardware is None else device_title(policy.hardware)
    objective = "" if policy.objective is None else f", found for {policy.objective}"
    columns = ("layer", "kind", "codes of\nweights", "codes of\nits input", "weights", "input")
    print_table(f"{model_title(policy.model)} on {device}{objective}", columns, rows, text_columns=4)
    costs = [row for row in _costs((policy,)) if row[1] != "-" or row[2] != "-"]
    if costs:
        print_text("")
        print_table("", ("cost", "policy", "8 bits"), costs)
    for line in (*_budgets(policy), *_accuracies(policy)):
        print_text(line)


def print_difference(first: Policy, second: Policy, *, names: Names) -> None:
    """Print the layers in which two policies differ, and cost and accuracy of both.

    Args:
        first: A policy.
        second: Another one.
        names: What the two are called.
    """
    document = difference_document(first, second, names=names)
    rows = [
        (layer["name"], *(f"{_bits(layer[side]['w_bits'])}/{_bits(layer[side]['a_bits'])}" for side in ("a", "b")))
        for layer in document["layers"]
    ]
    print_text(f"A is {names[0]}, B is {names[1]}")
    if rows:
        differing = f"{counted(len(rows), 'layer')} with different bits"
        print_table(f"{differing}, weights/input", ("layer", "A", "B"), rows)
    else:
        print_text("all layers that both have have the same bits")
    for side, key in (("A", "only_a"), ("B", "only_b")):
        if document[key]:
            print_text(f"only in {side}: {', '.join(document[key])}")
    print_text("")
    print_table("", ("", "A", "B"), [*_costs((first, second)), *_scores(first, second)])


def difference_document(first: Policy, second: Policy, *, names: Names) -> dict[str, Any]:
    """Return the differences between two policies as JSON values.

    Args:
        first: A policy.
        second: Another one.
        names: What the two are called.

    Returns:
        `a` and `b` with file, model, hardware, cost and accuracy; `layers` with the bits of both where they differ;
        `only_a` and `only_b`, names of layers that the other does not have.
    """
    theirs = {layer.name: layer for layer in second.layers}
    ours = {layer.name for layer in first.layers}
    shared = [(layer, theirs[layer.name]) for layer in first.layers if layer.name in theirs]
    return {
        "a": _side(first, names[0]),
        "b": _side(second, names[1]),
        "layers": [
            {"name": a.name, "kind": a.kind, "a": _pair(a), "b": _pair(b)} for a, b in shared if _pair(a) != _pair(b)
        ],
        "only_a": [layer.name for layer in first.layers if layer.name not in theirs],
        "only_b": [layer.name for layer in second.layers if layer.name not in ours],
    }


def _side(policy: Policy, name: str) -> dict[str, Any]:
    fields = policy.model_dump(mode="json", include={"model", "hardware", "objective", "cost", "accuracy"})
    return {"file": name, **fields}


def _pair(layer: LayerBits) -> dict[str, Bits]:
    return {"w_bits": layer.w_bits, "a_bits": layer.a_bits}


def _costs(policies: Sequence[Policy]) -> list[tuple[str, ...]]:
    """Return the costs of one policy beside those of 8 bits, or those of two policies."""
    sides = [policy.cost for policy in policies]
    if len(policies) == 1:
        sides.append(policies[0].baseline_cost)
    return [(objective, *(cost_text(objective, side.value(objective)) for side in sides)) for objective in OBJECTIVES]


def _scores(first: Policy, second: Policy) -> list[tuple[str, ...]]:
    names = dict.fromkeys((*first.accuracy, *second.accuracy))
    return [(f"accuracy, {name}", *(_score(policy.accuracy.get(name)) for policy in (first, second))) for name in names]


def _budgets(policy: Policy) -> Iterator[str]:
    for budget in policy.budget or ():
        limit = format_cost(budget.objective, budget.value)
        yield f"budget: {budget.objective} {limit}, {budget.ratio:.3g} of 8 bits"


def _accuracies(policy: Policy) -> Iterator[str]:
    if policy.accuracy:
        scores = ", ".join(f"{name} {_score(score)}" for name, score in policy.accuracy.items())
        yield f"accuracy (score of the task): {scores}"


def _quantizer(is_signed: bool | None, granularity: Granularity | None) -> str:
    sign = {None: "", True: "signed", False: "unsigned"}[is_signed]
    shared = "" if granularity is None else granularity.replace("_", " ")
    return ", ".join(each for each in (sign, shared) if each) or "-"


def _bits(bits: Bits) -> str:
    return "float" if bits is None else str(bits)


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"
