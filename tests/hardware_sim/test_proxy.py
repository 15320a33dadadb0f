"""Bytes and bit operations, computed by hand."""

from dataclasses import replace

import numpy as np

from hardware_sim.cost import width_index
from hardware_sim.layer import Layer
from hardware_sim.networks import mobilenet_v1
from hardware_sim.proxy import bops, overhead_bytes, proxy_table, weight_bytes

LAYER = Layer(name="c", kind="conv", c_in=4, c_out=8, kernel=(3, 3), input_size=(5, 5), output_size=(5, 5))


def test_weight_bytes_depend_on_weights_alone() -> None:
    table = weight_bytes([LAYER])
    assert table[0, width_index(3), width_index(8)] == 288 * 3 / 8
    assert (table == table[:, :, :1]).all()


def test_float_counts_32_bits() -> None:
    assert weight_bytes([LAYER])[0, width_index(None), 0] == 288 * 4
    assert bops([LAYER])[0, width_index(None), width_index(8)] == 288 * 25 * 32 * 8


def test_bops() -> None:
    assert bops([LAYER])[0, width_index(2), width_index(7)] == 288 * 25 * 2 * 7


def test_published_compression_of_mobilenet_v1() -> None:
    # HAQ reports 1.09, 1.60 and 2.10 MB at 2, 3 and 4 bits, codebooks and 8-bit parts included.
    table = proxy_table(mobilenet_v1())
    megabytes = [float(table.weight_bytes[:, width_index(b), 0].sum()) / 1e6 for b in (2, 3, 4)]
    assert np.allclose(megabytes, [1.09, 1.60, 2.10], atol=0.04)


def test_proxy_table_has_no_latency() -> None:
    table = proxy_table([LAYER])
    assert (table.cycles, table.latency_s, table.energy_j) == (None, None, None)


def test_no_layers() -> None:
    assert weight_bytes([]).shape == (0, 9, 9)


def test_batch_and_name_are_those_given() -> None:
    assert (proxy_table([LAYER]).hardware, proxy_table([LAYER]).batch) == ("proxy", 1)
    given = proxy_table([LAYER], hardware="desk", batch=3)
    assert (given.hardware, given.batch, given.layers) == ("desk", 3, (LAYER,))


def test_overhead_is_eight_bytes_a_call_and_eight_for_each_channel_of_the_weights() -> None:
    product = Layer(name="m", kind="matmul", c_in=4, c_out=8)
    assert [overhead_bytes(layer) for layer in (LAYER, replace(LAYER, tied_to="a"), product)] == [8 + 64, 8, 8]
