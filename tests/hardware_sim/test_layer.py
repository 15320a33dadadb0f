"""Counts of every kind of layer, computed by hand."""

from dataclasses import FrozenInstanceError

import pytest

from hardware_sim.layer import Layer, decision_index
from hardware_sim.networks import NETWORKS

STEM = Layer(
    name="stem", kind="conv", c_in=3, c_out=8, kernel=(3, 3), stride=(2, 2), input_size=(8, 6), output_size=(4, 3)
)


def test_convolution() -> None:
    assert STEM.weight_count == 8 * 3 * 9
    assert STEM.macs == 4 * 3 * 8 * 3 * 9
    assert STEM.input_count == 3 * 8 * 6
    assert STEM.output_count == 8 * 4 * 3


def test_groups_divide_weights_and_macs() -> None:
    layer = Layer(
        name="g", kind="conv", c_in=8, c_out=4, groups=2, kernel=(3, 3), input_size=(5, 5), output_size=(5, 5)
    )
    assert layer.weight_count == 4 * (8 // 2) * 9
    assert layer.macs == 25 * 4 * 4 * 9


def test_transposed_convolution_multiplies_at_its_input() -> None:
    layer = Layer(
        name="up", kind="conv_transpose", c_in=4, c_out=2, kernel=(2, 2), stride=(2, 2), input_size=(3, 3),
        output_size=(6, 6),
    )  # fmt: skip
    assert layer.macs == 9 * 4 * 2 * 4


def test_linear_at_every_position() -> None:
    layer = Layer(name="fc", kind="linear", c_in=5, c_out=7, input_size=(1, 11), output_size=(1, 11))
    assert (layer.weight_count, layer.macs) == (35, 385)


def test_embedding_has_no_macs() -> None:
    layer = Layer(name="e", kind="embedding", c_in=100, c_out=16, input_size=(1, 9), output_size=(1, 9))
    assert (layer.weight_count, layer.macs, layer.input_count, layer.output_count) == (1600, 0, 9, 144)


def test_matmul_has_no_weights() -> None:
    layer = Layer(name="qk", kind="matmul", c_in=32, c_out=20, groups=2, output_size=(1, 10))
    assert (layer.weight_count, layer.macs) == (0, 10 * 32 * 20 // 2)


def test_tied_call_has_macs_but_no_weights() -> None:
    layer = Layer(name="a:2", kind="linear", c_in=4, c_out=4, tied_to="a")
    assert (layer.weight_count, layer.weights_read, layer.macs) == (0, 16, 16)


def test_layers_are_immutable_and_comparable() -> None:
    with pytest.raises(FrozenInstanceError):
        STEM.c_in = 4  # type: ignore[misc]


@pytest.mark.parametrize("wrong", [{"c_in": 0}, {"kernel": (0, 3)}, {"output_size": (1, -1)}, {"stride": (0, 1)}])
def test_sizes_below_one_raise(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="layer 'x': every size must be at least 1"):
        Layer(**{"name": "x", "kind": "conv", "c_in": 4, "c_out": 4, **wrong})  # type: ignore[arg-type]


def test_groups_that_do_not_divide_channels_raise() -> None:
    with pytest.raises(ValueError, match="3 groups"):
        Layer(name="x", kind="conv", c_in=4, c_out=6, groups=3)


def test_decision_index_raises_for_equal_names() -> None:
    with pytest.raises(ValueError, match="unique"):
        decision_index([STEM, STEM])


@pytest.mark.parametrize(
    ("network", "macs"),
    # From the papers (569, 300 million) and torchvision's documentation (1.81, 4.09 billion), bias excluded.
    [("mobilenet_v1", 568740352), ("mobilenet_v2", 300774272), ("resnet18", 1814073344), ("resnet50", 4089184256)],
)
def test_network_macs(network: str, macs: int) -> None:
    assert sum(layer.macs for layer in NETWORKS[network]()) == macs


@pytest.mark.parametrize("network", NETWORKS)
def test_layers_of_networks_read_earlier_outputs(network: str) -> None:
    layers = NETWORKS[network]()
    assert decision_index(layers) == list(range(len(layers)))
    for index, layer in enumerate(layers):
        assert layer.output_tensor == index + 1
        assert all(tensor <= index for tensor in layer.input_tensors)
