"""Matrix products keep the multiply-accumulates of their layer."""

from math import prod

import pytest

from hardware_sim.layer import Layer
from hardware_sim.lowering import image_product, lookup_count
from hardware_sim.networks import NETWORKS

TRANSPOSED = Layer(
    name="t", kind="conv_transpose", c_in=8, c_out=4, groups=2, kernel=(4, 2), input_size=(3, 5), output_size=(6, 10)
)
OTHERS = (
    TRANSPOSED,
    Layer(name="g", kind="conv", c_in=8, c_out=4, groups=2, kernel=(3, 3), dilation=(2, 2), output_size=(6, 10)),
    Layer(name="m", kind="matmul", c_in=32, c_out=20, groups=4, output_size=(1, 5)),
    Layer(name="r", kind="recurrent", c_in=24, c_out=64, output_size=(1, 7)),
    Layer(name="e", kind="embedding", c_in=1000, c_out=8, input_size=(1, 7), output_size=(1, 7)),
)


@pytest.mark.parametrize("layer", [*OTHERS, *(layer for build in NETWORKS.values() for layer in build())])
def test_products_keep_the_macs(layer: Layer) -> None:
    assert prod(image_product(layer)) == layer.macs


def test_transposed_convolution_multiplies_every_input_with_the_whole_kernel() -> None:
    assert tuple(image_product(TRANSPOSED)) == (2, 8 * 2, 15, 4)


def test_recurrent_layer_has_one_product_per_step() -> None:
    assert tuple(image_product(OTHERS[3])) == (7, 64, 1, 24)


def test_lookup_count_is_zero_except_for_embeddings() -> None:
    assert [lookup_count(layer, 3) for layer in OTHERS] == [0, 0, 0, 0, 3 * 7 * 8]
