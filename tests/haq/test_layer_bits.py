"""Bits of layers: what they are for a network, and how bits of another network differ."""

import pytest

from haq.layer_bits import LayerBits, difference_from, uniform_bits
from hardware_sim.layer import Layer, LayerKind

LAYERS = (
    Layer(name="a", kind="conv", c_in=1, c_out=1),
    Layer(name="b", kind="linear", c_in=1, c_out=1),
    Layer(name="a:2", kind="conv", c_in=1, c_out=1, tied_to="a"),
)


def test_uniform_bits_fit_their_network() -> None:
    bits = uniform_bits(LAYERS, w_bits=4, a_bits=None)
    assert [(each.name, each.kind, each.w_bits, each.a_bits) for each in bits] == [
        ("a", "conv", 4, None),
        ("b", "linear", 4, None),
        ("a:2", "conv", 4, None),
    ]
    assert difference_from(bits, LAYERS, model="ours") == ""


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        ([("a", "conv", 4), ("b", "linear", 4)], "no bits for a:2"),
        (
            [("a", "conv", 4), ("b", "linear", 4), ("c", "conv", 4)],
            "no bits for a:2; bits for c, which ours does not have",
        ),
        ([("b", "linear", 4), ("a", "conv", 4), ("a:2", "conv", 4)], "the same layers in another order"),
        ([("a", "conv", 4), ("b", "conv", 4), ("a:2", "conv", 4)], "b is linear, not conv"),
        (
            [("a", "conv", 4), ("b", "linear", 4), ("a:2", "conv", 5)],
            "a:2 must have the bits of a, whose weights it uses",
        ),
        (
            [(f"l{n}", "conv", 4) for n in range(9)],
            "no bits for a, b, a:2; bits for l0, l1, l2 and 6 more, which ours does not have",
        ),
    ],
)
def test_bits_of_another_network_differ(given: list[tuple[str, LayerKind, int]], difference: str) -> None:
    bits = [LayerBits(name=name, kind=kind, w_bits=width, a_bits=8) for name, kind, width in given]
    assert difference_from(bits, LAYERS, model="ours") == difference
