"""Deployment targets as `haq hardware targets` prints them."""

from collections.abc import Iterator

from haq.cli.output import print_json, print_table, print_text
from hardware_sim.deployment_target import DeploymentTarget
from hardware_sim.target_catalog import load_target, target_names


def print_targets(*, json: bool) -> None:
    """Print the shipped targets.

    Args:
        json: Whether to print one JSON document.
    """
    found = [load_target(name) for name in target_names()]
    if json:
        print_json([{"name": target.name, "description": target.description} for target in found])
        return
    rows = [(target.name, target.description) for target in found]
    print_table(f"{len(found)} deployment targets", ("target", "description"), rows, text_columns=2, wraps=True)


def print_target(target: DeploymentTarget, *, json: bool) -> None:
    """Print the rules of a target and their sources.

    Args:
        target: The target.
        json: Whether to print one JSON document.
    """
    if json:
        print_json(target.model_dump(mode="json"))
    else:
        _print_target(target)


def _print_target(target: DeploymentTarget) -> None:
    print_text(f"{target.name}: {target.description}")
    print_text("")
    print_table("rules", ("key", "value"), list(_rules(target)), text_columns=2, wraps=True)
    lines = [f"{key}: {source}" for key, source in target.sources.items()]
    for heading, each in (("sources", lines), ("mind that", target.notes)):
        if each:
            for line in ("", heading, *(f"- {line}" for line in each)):
                print_text(line)


def _rules(target: DeploymentTarget) -> Iterator[tuple[str, str]]:
    """List the rules, defaults included."""
    yield "bits", target.legal_text()
    yield "first_last", target.legal_text(is_end=True)
    yield "layer_kinds", ", ".join(target.layer_kinds)
    yield "float_layers", _yes(target.float_layers)
    yield "weight_granularity", target.weight_granularity
    yield "zero_points", _yes(target.zero_points)
    yield "offsets", _yes(target.offsets)
    yield "power_of_two_scales", ", ".join(target.power_of_two_scales) or "none"
    yield "weight_storage", target.weight_storage


def _yes(value: bool) -> str:
    return "true" if value else "false"
