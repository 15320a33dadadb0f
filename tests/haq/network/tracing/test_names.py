"""Names of layers, and of the parts of parameters that they use."""

import pytest

from haq.network.tracing.names import LayerName, free_name, part_of, unique_names
from haq.network.tracing.weighted_calls import WeightSlice


@pytest.mark.parametrize(
    ("path", "leaf", "part", "short", "full"),
    [
        ("conv", "weight", "", "conv", "conv"),
        ("mix", "weight", "[0:4]", "mix[0:4]", "mix[0:4]"),
        ("", "in_proj_weight", "", "in_proj", "in_proj_weight"),
        ("lstm", "weight_ih_l0", "[0:4]", "lstm.ih_l0[0:4]", "lstm.weight_ih_l0[0:4]"),
        ("a.b", "table", "[1]", "a.b.table[1]", "a.b.table[1]"),
    ],
)
def test_names_are_path_and_shortened_parameter(path: str, leaf: str, part: str, short: str, full: str) -> None:
    assert LayerName.of(path, leaf, part) == LayerName(short, full)


def test_equal_names_are_numbered_from_two() -> None:
    same, other = LayerName("p", "p_weight"), LayerName("q", "q_weight")
    assert unique_names([same, other, same, same]) == ["p_weight", "q", "p_weight~2", "p_weight~3"]
    assert free_name("p", {"p", "p~2"}) == "p~3"
    assert free_name("p", ()) == "p"


@pytest.mark.parametrize(
    ("shape", "offset", "part", "index"),
    [
        ((12, 4), 0, (12, 4), ""),
        ((12, 4), 0, (4, 4), "[0:4]"),
        ((12, 4), 32, (4, 4), "[8:12]"),
        ((2, 8, 4), 0, (8, 4), "[0]"),
        ((2, 8, 4), 48, (4, 4), "[1][4:8]"),
        ((2, 3, 8, 4), 128, (8, 4), "[1][1]"),
        ((12, 4), 6, (2, 4), "[1:3]"),
    ],
)
def test_parts_of_parameters_are_indices(
    shape: tuple[int, ...], offset: int, part: tuple[int, ...], index: str
) -> None:
    assert part_of(shape, WeightSlice("w", offset, part)) == index
