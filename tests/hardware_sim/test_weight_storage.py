"""Bytes of weights in TensorFlow Lite Micro: tables, int4 or int8."""

import numpy as np
import pytest

from hardware_sim.cost import WIDTHS, width_index
from hardware_sim.layer import Layer, LayerKind
from hardware_sim.weight_storage import choose_storage, container_weight_bytes, file_weight_bytes, stored_weight_bytes

CONV = Layer(name="conv", kind="conv", c_in=64, c_out=64, kernel=(3, 3))
DEPTHWISE = Layer(name="dw", kind="depthwise", c_in=64, c_out=64, kernel=(3, 3), groups=64)
LINEAR = Layer(name="fc", kind="linear", c_in=64, c_out=10)


@pytest.mark.parametrize(
    ("layer", "bits", "stored"),
    [
        (CONV, 2, ("table", 36864 * 2 // 8 + 16 + 4)),
        (CONV, 3, ("table", 36864 * 3 // 8 + 16 + 8)),
        (CONV, 4, ("int4", 36864 // 2)),
        (CONV, 5, ("table", 36864 * 5 // 8 + 16 + 32)),
        (CONV, 7, ("table", 36864 * 7 // 8 + 16 + 128)),
        (CONV, 8, ("int8", 36864)),
        (CONV, None, ("float32", 4 * 36864)),
        (DEPTHWISE, 2, ("int4", 576 // 2)),
        (DEPTHWISE, 5, ("int8", 576)),
        (LINEAR, 4, ("int4", 640 // 2)),
        (LINEAR, 6, ("int8", 640)),
    ],
)
def test_the_smallest_storage_is_chosen(layer: Layer, bits: int | None, stored: tuple[str, int]) -> None:
    assert stored_weight_bytes(layer, bits) == stored


def test_bits_that_fill_no_whole_byte_round_up() -> None:
    layer = Layer(name="c", kind="conv", c_in=3, c_out=1, kernel=(3, 3))
    assert stored_weight_bytes(layer, 4) == ("int4", 14)
    wide = Layer(name="c", kind="linear", c_in=10001, c_out=1)
    assert stored_weight_bytes(wide, 3) == ("table", 3751 + 16 + 8)


@pytest.mark.parametrize(("w_bits", "storage"), [(2, "int4"), (4, "int4"), (5, "int8"), (7, "int8")])
def test_without_tables_weights_are_int4_or_int8(w_bits: int, storage: str) -> None:
    assert choose_storage(36864, w_bits, lookup_tables=False) == storage


@pytest.mark.parametrize("kind", ["embedding", "recurrent", "conv_transpose"])
def test_other_kinds_are_stored_in_int8(kind: LayerKind) -> None:
    assert stored_weight_bytes(Layer(name="x", kind=kind, c_in=64, c_out=64), 2) == ("int8", 4096)


def test_tied_layers_and_products_of_activations_store_nothing() -> None:
    tied = Layer(name="conv:2", kind="conv", c_in=64, c_out=64, kernel=(3, 3), tied_to="conv")
    product = Layer(name="mm", kind="matmul", c_in=64, c_out=64)
    assert all(stored_weight_bytes(layer, bits)[1] == 0 for layer in (tied, product) for bits in WIDTHS)


def test_the_table_has_the_bytes_of_every_layer_and_width() -> None:
    layers = (CONV, DEPTHWISE, LINEAR)
    table = file_weight_bytes(layers, "tflm")
    assert table.shape == (3, len(WIDTHS), len(WIDTHS))
    for row, layer in enumerate(layers):
        for bits in WIDTHS:
            assert np.all(table[row, width_index(bits)] == stored_weight_bytes(layer, bits)[1])
    assert file_weight_bytes((), "tflm").shape == (0, len(WIDTHS), len(WIDTHS))


@pytest.mark.parametrize(
    ("bits", "int8", "narrow"),
    [
        (2, 36864, 9216),
        (3, 36864, 18432),
        (4, 36864, 18432),
        (5, 36864, 36864),
        (8, 36864, 36864),
        (None, 147456, 147456),
    ],
)
def test_containers_of_onnx_files(bits: int | None, int8: int, narrow: int) -> None:
    assert container_weight_bytes(CONV, bits, "int8") == int8
    assert container_weight_bytes(CONV, bits, "narrow") == narrow


def test_narrow_containers_that_save_less_than_their_nodes_take_are_int8() -> None:
    assert container_weight_bytes(DEPTHWISE, 4, "narrow") == 576
    assert container_weight_bytes(DEPTHWISE, 2, "narrow") == 144


def test_the_table_of_an_onnx_file_has_a_byte_for_every_weight() -> None:
    table = file_weight_bytes((CONV, LINEAR), "int8")
    assert np.all(table[0, [width_index(2), width_index(8)]] == 36864)
    assert np.all(table[1, width_index(3)] == 640)


@pytest.mark.parametrize(("count", "width", "size"), [(600, 4, 600), (602, 4, 301), (400, 2, 400), (402, 2, 101)])
def test_narrow_containers_have_to_save_more_than_300_bytes(count: int, width: int, size: int) -> None:
    layer = Layer(name="fc", kind="linear", c_in=count, c_out=1)
    assert container_weight_bytes(layer, width, "narrow") == size


@pytest.mark.parametrize(("count", "storage"), [(2687, "int8"), (2688, "int8"), (2696, "table")])
def test_table_has_to_save_more_than_its_decoding_takes(count: int, storage: str) -> None:
    # At 7 bits: seven eighths of the weights, and 16 + 128 + 192 bytes; as many as int8 at 8 * 336 weights.
    assert choose_storage(count, 7, lookup_tables=True) == storage
