"""Deployment targets: shipped files, loading, and one-line messages for invalid files."""

from pathlib import Path

import pytest

from hardware_sim.deployment_target import DeploymentTarget, widths_text
from hardware_sim.description_files import DescriptionError
from hardware_sim.target_catalog import TARGETS, load_target, target_names

GOOD = """
name = "mine"
description = "a chip of my own"
zero_points = false
[[bits]]
w_bits = [4, 8]
a_bits = [8]
"""
PROSE = {"name", "description", "notes", "sources"}


def file_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", target_names())
def test_every_shipped_target_loads_and_has_a_source_for_every_rule(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert set(target.sources) == target.model_fields_set - PROSE
    assert all(source.strip() for source in target.sources.values())


def test_the_targets_of_the_documentation_are_shipped() -> None:
    assert target_names() == ("finn", "hls4ml", "imx500", "mcu-c", "onnxruntime", "onnxruntime-compact", "tflm")


def test_legal_pairs() -> None:
    tflm, imx500 = load_target("tflm"), load_target("imx500")
    assert tflm.pairs == {(w_bits, 8) for w_bits in range(2, 9)}
    assert imx500.pairs == {(2, 8), (4, 8), (8, 8)}
    assert imx500.allows(4, 8)
    assert not imx500.allows(3, 8)
    assert not tflm.allows(8, 4)


def test_float_is_legal_where_the_target_has_it() -> None:
    assert load_target("onnxruntime").allows(None, 8)
    assert not load_target("tflm").allows(None, None)


def test_first_and_last_layers_may_have_rules_of_their_own(tmp_path: Path) -> None:
    target = load_target(file_of(tmp_path, f"{GOOD}[[first_last]]\nw_bits = [8]\na_bits = [8]\n"))
    assert target.allows(4, 8)
    assert not target.allows(4, 8, is_end=True)
    assert target.legal_text(is_end=True) == "weights of 8 bits with activations of 8 bits"


def test_pairs_of_several_rules_are_added(tmp_path: Path) -> None:
    target = load_target(file_of(tmp_path, f"{GOOD}[[bits]]\nw_bits = [2]\na_bits = [2]\n"))
    assert target.pairs == {(4, 8), (8, 8), (2, 2)}
    assert target.legal_text() == (
        "weights of 4 or 8 bits with activations of 8 bits, or weights of 2 bits with activations of 2 bits"
    )


def test_targets_load_by_file(tmp_path: Path) -> None:
    assert isinstance(load_target(str(file_of(tmp_path, GOOD))), DeploymentTarget)
    assert load_target(TARGETS / "tflm.toml").name == "tflm"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("zero_points", "zero_point"), "unknown key 'zero_point' (did you mean 'zero_points'?)"),
        (GOOD.replace("[8]", "[9]"), "bits.0.a_bits.0: input should be less than or equal to 8, got 9"),
        (GOOD.replace("[4, 8]", "[]"), "bits.0.w_bits: "),
        (GOOD.replace("w_bits = [4, 8]", ""), "missing key 'bits.0.w_bits'"),
        (GOOD.replace("false", '"no"'), "zero_points: input should be a valid boolean, got 'no'"),
        (GOOD.partition("[[bits]]")[0], "missing key 'bits'"),
        (f'{GOOD}[sources]\nbit = "x"\n', "sources names bit, which are not keys of a target"),
        (f"layer_kinds = ['convolution']\n{GOOD}", "layer_kinds.0: input should be 'conv', "),
        (GOOD.replace('"mine"', '"tflm"'), "'tflm' is the name of a shipped target; choose another"),
        ("name =", "not TOML"),
    ],
)
def test_invalid_files_are_refused_in_one_line_with_the_field(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(DescriptionError) as caught:
        load_target(file_of(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("widths", ["[9]", "['a']", "[2.5]", "[0]"])
def test_a_wrong_width_is_one_clause(widths: str, tmp_path: Path) -> None:
    with pytest.raises(DescriptionError) as caught:
        load_target(file_of(tmp_path, GOOD.replace("[4, 8]", widths)))
    _, _, clauses = str(caught.value).partition(": ")
    assert clauses.startswith("bits.0.w_bits.0: input should be ")
    assert ";" not in clauses


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("imx50", "unknown deployment target 'imx50' (did you mean 'imx500'?); known are finn, "),
        ("qnn", "unknown deployment target 'qnn'; known are finn, "),
        ("missing.toml", "no such file"),
    ],
)
def test_unknown_targets_are_refused_with_known_ones(name: str, message: str) -> None:
    with pytest.raises(DescriptionError) as caught:
        load_target(name)
    assert message in str(caught.value)


def target_of(**settings: object) -> DeploymentTarget:
    bits = [{"w_bits": [4, 8], "a_bits": [8]}]
    return DeploymentTarget.model_validate({"name": "mine", "description": "mine", "bits": bits, **settings})


def test_one_operand_in_float_is_a_float_layer() -> None:
    assert [target_of().allows(*pair) for pair in ((8, None), (None, 8))] == [False, False]
    assert [target_of(float_layers=True).allows(*pair) for pair in ((8, None), (None, 8), (3, 8))] == [
        True,
        True,
        False,
    ]


def test_ends_have_the_rules_of_the_middle_unless_they_have_their_own() -> None:
    assert target_of().end_pairs == {(4, 8), (8, 8)}
    own = target_of(first_last=[{"w_bits": [8], "a_bits": [8]}, {"w_bits": [2], "a_bits": [4]}])
    assert own.end_pairs == {(8, 8), (2, 4)}
    assert own.pairs == {(4, 8), (8, 8)}
    assert (
        target_of().legal_text(is_end=True) == own.legal_text() == "weights of 4 or 8 bits with activations of 8 bits"
    )


def test_powers_of_two_and_shared_scales_cannot_be_learned_freely() -> None:
    assert not target_of().restricts_scales
    assert target_of(power_of_two_scales=["activations"]).restricts_scales
    assert target_of(weight_granularity="per_tensor").restricts_scales


@pytest.mark.parametrize(
    ("widths", "text"), [((3, 2), "2 or 3"), ((4, 2, 3), "2 to 4"), ((2, 4, 5), "2, 4 or 5"), ((4, 4), "4")]
)
def test_three_or_more_successive_widths_are_a_range(widths: tuple[int, ...], text: str) -> None:
    assert widths_text(widths) == text
