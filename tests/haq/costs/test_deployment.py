"""Deployment targets in prices and in the bits of a search: sizes with tables, legal pairs, contradictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.building import build_choices
from envs.choices import AllowedBits
from haq.__main__ import main
from haq.api import simulate
from haq.config import search_config
from haq.costs.deployment import deployed_table, require_deployable
from haq.costs.pricing import PricedLayers, allowed_bits, resolve_budgets
from haq.errors import UserError
from haq.experiment.near_budget import policies_near_budget
from haq.layer_bits import LayerBits, uniform_bits
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import UnsupportedError
from hardware_sim.layer import Layer
from hardware_sim.target_catalog import load_target, target_names
from hardware_sim.weight_storage import stored_weight_bytes

Output = pytest.CaptureFixture[str]
STEM = Layer(name="stem", kind="conv", c_in=8, c_out=16, kernel=(3, 3), input_size=(8, 8), output_size=(8, 8))
BODY = Layer(name="body", kind="conv", c_in=16, c_out=16, kernel=(3, 3), input_size=(8, 8), output_size=(8, 8))
AGAIN = Layer(
    name="body:2", kind="conv", c_in=16, c_out=16, kernel=(3, 3), input_size=(8, 8), output_size=(8, 8), tied_to="body"
)
HEAD = Layer(name="head", kind="linear", c_in=16, c_out=10)
NET = (STEM, BODY, AGAIN, HEAD)
CUSTOM = """
name = "ends"
description = "8 bits at both ends"
[[bits]]
w_bits = [2, 4]
a_bits = [4, 8]
[[first_last]]
w_bits = [8]
a_bits = [8]
"""


def priced(device: str = "bismo-edge") -> PricedLayers:
    return PricedLayers("net", NET, ("head",), (), load_accelerator(device).table(NET))


def allowed(**settings: Any) -> AllowedBits:
    return allowed_bits(search_config(**settings), priced())


def chosen(**settings: Any) -> dict[str, set[tuple[int, int]]]:
    """The pairs that a search may choose, by layer."""
    config = search_config(**settings)
    budgets = resolve_budgets(config, priced())
    choice = build_choices(priced().table, [each.budget for each in budgets], allowed_bits(config, priced()))
    return {
        name: {(int(w) + 1, int(a) + 1) for w, a in np.argwhere(mask)}
        for name, mask in zip(choice.names, choice.allowed, strict=True)
    }


@pytest.fixture
def custom(tmp_path: Path) -> str:
    path = tmp_path / "ends.toml"
    path.write_text(CUSTOM)
    return str(path)


def test_without_a_target_nothing_changes() -> None:
    table = priced().table
    assert deployed_table(table, None) is table
    assert allowed().legal == {}
    assert allowed().pinned == {"stem": (8, 8), "head": (8, 8)}


@pytest.mark.parametrize("name", target_names())
def test_a_search_for_a_target_chooses_only_legal_pairs(name: str) -> None:
    target = load_target(name)
    for settings in ({}, {"objective": "size"}, {"first_last_bits": None, "max_bits": 4}):
        assert all(pairs <= target.pairs for pairs in chosen(deploy=name, budget="8bits", **settings).values())


def test_legal_pairs_are_intersected_with_the_range_and_pins() -> None:
    assert chosen(deploy="imx500", max_bits=5) == {"stem": {(8, 8)}, "body": {(2, 8), (4, 8)}, "head": {(8, 8)}}
    assert chosen(deploy="tflm", min_bits=3, max_bits=4, pin={"head": 4})["head"] == {(4, 8)}
    assert chosen(deploy="tflm", first_last_bits=2)["stem"] == {(2, 8)}
    assert chosen(deploy="mcu-c", min_bits=5, max_bits=6)["body"] == {(5, 5), (5, 6), (6, 5), (6, 6)}


def test_one_legal_width_of_activations_is_fixed_for_all_layers() -> None:
    assert allowed(deploy="tflm").a_bits == 8
    assert allowed(deploy="finn").a_bits is None
    assert allowed(deploy="finn", objective="size", a_bits=4, budget="0.5").a_bits == 4


def test_ends_may_have_rules_of_their_own(custom: str) -> None:
    found = chosen(deploy=custom, budget="8bits")
    assert found == {"stem": {(8, 8)}, "body": {(2, 4), (2, 8), (4, 4), (4, 8)}, "head": {(8, 8)}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"deploy": "imx500", "pin": {"body": 3}},
            "--pin body=3 is not legal for layer 'body': --deploy imx500 takes ",
        ),
        ({"deploy": "imx500", "first_last_bits": 6}, "--first-last-bits 6 is not legal for layer '"),
        (
            {"deploy": "imx500", "min_bits": 5, "max_bits": 7},
            "--min-bits 5 and --max-bits 7 with activations of 8 bits",
        ),
        ({"deploy": "tflm", "objective": "size", "a_bits": 4}, "--a-bits 4 is not legal: --deploy tflm takes weights"),
    ],
)
def test_contradictions_with_a_target_are_one_line(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        allowed(**settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_contradictions_with_rules_of_ends_are_refused(custom: str) -> None:
    with pytest.raises(UserError, match=r"--pin head=4 is not legal for layer 'head': .*weights of 8 bits with"):
        allowed(deploy=custom, pin={"head": 4})
    with pytest.raises(UserError, match="--max-bits 4 leave no legal bits for layer 'stem'"):
        allowed(deploy=custom, first_last_bits=None, max_bits=4)


def test_a_budget_of_uniform_bits_keeps_the_activations_of_the_target() -> None:
    config = search_config(deploy="tflm", budget=("3bits",), first_last_bits=None)
    (budget,) = resolve_budgets(config, priced())
    assert budget.budget.limit == priced().cost(3, 8).latency_s


def test_engines_are_compared_with_legal_policies() -> None:
    config = search_config(deploy="imx500", budget=("5bits",), first_last_bits=None)
    for w_bits, a_bits in policies_near_budget(config, priced()):
        assert set(w_bits) <= {2, 4, 8}
        assert set(a_bits) == {8}


def test_sizes_and_flash_count_lookup_tables() -> None:
    before, target = load_accelerator("mcu-cortex-m7").table(NET), load_target("tflm")
    table = deployed_table(before, target)
    bits = 3
    expected = [stored_weight_bytes(layer, bits)[1] for layer in NET]
    assert table.weight_bytes[:, bits - 1, 7].tolist() == expected
    flash = next(limit for limit in table.limits if limit.name == "flash")
    assert flash.table[:, bits - 1, 7].tolist() == expected
    assert table.notes[-1] == target.notes[-1]
    assert (table.latency_s is before.latency_s, table.limits[1:] == before.limits[1:]) == (True, True)


def test_sizes_of_targets_without_a_storage_of_their_own_are_those_of_the_device() -> None:
    table = priced().table
    assert deployed_table(table, load_target("finn")).weight_bytes is table.weight_bytes


def test_layers_that_a_target_does_not_compute_are_refused_by_name() -> None:
    layers = (STEM, Layer(name="lstm", kind="recurrent", c_in=4, c_out=16))
    with pytest.raises(UnsupportedError, match=r"hls4ml does not take layer 'lstm' \(recurrent\), only conv, "):
        deployed_table(load_accelerator("gpu-t4").table(layers), load_target("hls4ml"))


def test_policies_that_break_a_rule_are_refused_with_layer_and_bits() -> None:
    target = load_target("tflm")
    heads = ("head",)
    require_deployable(target, uniform_bits(NET, w_bits=3, a_bits=8), layers=NET, heads=heads)
    require_deployable(None, uniform_bits(NET, w_bits=3, a_bits=3), layers=NET, heads=heads)
    in_float = (LayerBits(name="stem", kind="conv", w_bits=None, a_bits=None),)
    with pytest.raises(UserError, match="layer 'stem' has float weights and float activations"):
        require_deployable(target, in_float, layers=NET, heads=heads)
    with pytest.raises(UserError) as caught:
        require_deployable(target, uniform_bits(NET, w_bits=3, a_bits=5), layers=NET, heads=heads)
    assert str(caught.value) == (
        "layer 'stem' has 3-bit weights and 5-bit activations, which --deploy tflm does not take; "
        "legal are weights of 2 to 8 bits with activations of 8 bits"
    )


def test_simulate_counts_tables(capsys: Output) -> None:
    assert main(["simulate", "--deploy", "tflm", "--w-bits", "5", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    plain = simulate(w_bits=5)
    assert document["totals"]["weight_bytes"] > plain["totals"]["weight_bytes"]
    assert document["totals"]["latency_s"] == plain["totals"]["latency_s"]
    assert simulate(w_bits=5, deploy="tflm")["totals"] == document["totals"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--deploy", "tflm", "--a-bits", "4"], "layer 'stem.0' has 8-bit weights and 4-bit activations"),
        (["--deploy", "imx500", "--w-bits", "3", "--compare", "gpu-t4"], "3-bit weights and 8-bit activations"),
        (["--deploy", "tflite"], "unknown deployment target 'tflite' (did you mean 'tflm'?)"),
    ],
)
def test_simulate_refuses_in_one_line(words: list[str], message: str, capsys: Output) -> None:
    assert main(["simulate", *words]) == 2
    output = capsys.readouterr()
    assert output.err.startswith("haq: ")
    assert output.err.count("\n") == 1
    assert message in output.err


def test_comparison_of_devices_counts_tables(capsys: Output) -> None:
    words = ["simulate", "--w-bits", "5", "--compare", "bismo-edge,gpu-t4", "--json"]
    sizes = []
    for flags in ([], ["--deploy", "tflm"]):
        assert main([*words, *flags]) == 0
        sizes.append([cell["weight_bytes"] for cell in json.loads(capsys.readouterr().out)["costs"][0]])
    assert sizes[1] == [simulate(w_bits=5, deploy="tflm")["totals"]["weight_bytes"]] * 2 != sizes[0]
