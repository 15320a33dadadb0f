"""BISMO compared to HAQ's released table, its published rows, and a step-by-step schedule."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware_sim.bit_serial import BitSerial
from hardware_sim.bit_serial_schedule import BinaryArray, price_products
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import CostTable, UnsupportedError
from hardware_sim.layer import Layer
from hardware_sim.lowering import Product
from hardware_sim.networks import mobilenet_v1, mobilenet_v2

TINY = BinaryArray(size=2, dot_bits=8, port_bits=4, buffer_words=8)


def uniform_ms(table: CostTable, bits: int, *, first: int = 1) -> float:
    """Milliseconds at uniform bits without the classifier, from layer `first` on."""
    assert table.latency_s is not None
    return float(table.latency_s[first:-1, bits - 1, bits - 1].sum()) * 1e3


@pytest.mark.data
def test_released_table_is_exact(reference_dir: Path) -> None:
    reference = np.load(reference_dir / "haq_mobilenetv2_bismo_cloud.npy", allow_pickle=False)
    cycles = load_accelerator("bismo-cloud").table(mobilenet_v2()).cycles
    assert reference.size == 3392
    np.testing.assert_array_equal(cycles[:, :8, :8], reference)


def test_checksums_of_the_released_table() -> None:
    cycles = load_accelerator("bismo-cloud").table(mobilenet_v2()).cycles
    sums = [3433704, 7063425, 11103578, 15716150, 20916896, 26653434, 32886714, 39624933]
    assert [int(cycles[:, bits, bits].sum()) for bits in range(8)] == sums
    assert [int(cycles[layer, 7, 7]) for layer in (0, 3, 51, 52)] == [1620752, 4860688, 667872, 40021]


@pytest.mark.parametrize(
    ("layers", "device", "published_ms", "tolerance"),
    [
        (mobilenet_v1(), "bismo-cloud", {4: 57.49, 5: 77.52, 6: 99.86, 8: 151.09}, 0.0),
        (mobilenet_v2(), "bismo-cloud", {4: 74.46, 5: 99.43, 6: 127.07, 8: 189.82}, 0.0),
        (mobilenet_v2(), "bismo-edge", {4: 52.15, 5: 66.94, 6: 82.49, 8: 115.84}, 0.011),
        (mobilenet_v1(), "bismo-edge", {8: 96.20}, 0.011),
    ],
)
def test_published_rows(
    layers: tuple[Layer, ...], device: str, published_ms: dict[int, float], tolerance: float
) -> None:
    table = load_accelerator(device).table(layers)
    for bits, expected in published_ms.items():
        assert abs(round(uniform_ms(table, bits), 2) - expected) <= tolerance + 1e-9


def test_published_edge_rows_of_mobilenet_v1_contain_the_first_layer() -> None:
    """Of HAQ's four rows for MobileNet-V1 on the edge device, three count the first convolution at 8 x 8 bits.

    The 8-bit row and all rows of the other tables leave it out.
    """
    table = load_accelerator("bismo-edge").table(mobilenet_v1())
    stem_ms = float(table.latency_s[0, 7, 7]) * 1e3
    assert stem_ms == pytest.approx(2.01, abs=0.005)
    for bits, expected in {4: 45.45, 5: 57.75, 6: 70.67}.items():
        assert uniform_ms(table, bits) + stem_ms == pytest.approx(expected, abs=0.031)


def stepped_cycles(array: BinaryArray, one: Product, w_bits: int, a_bits: int) -> int:
    """Cycles of a product that fits the buffers, by a step-by-step schedule in both loop orders."""
    return min(
        _step_through(array, (one.rows, w_bits), (one.columns, a_bits), one.depth),
        _step_through(array, (one.columns, a_bits), (one.rows, w_bits), one.depth),
    )


def _step_through(array: BinaryArray, inner: tuple[int, int], outer: tuple[int, int], depth: int) -> int:
    words = -(-depth // array.dot_bits)
    landed: list[dict[tuple[int, int, int], int]] = [{}, {}]
    port_free = [0, 0]
    cycle = 0

    def fetch(side: int, piece: tuple[int, int, int], lines: int) -> int:
        if piece not in landed[side]:
            tile, word, _ = piece
            width = min(array.dot_bits, depth - word * array.dot_bits)
            height = min(array.size, lines - tile * array.size)
            port_free[side] += height * -(-width // array.port_bits)
            landed[side][piece] = port_free[side] - 1
        return landed[side][piece]

    tiles = [range(-(-side[0] // array.size)) for side in (outer, inner)]
    for out, inn, word, bit_in, bit_out in product(*tiles, range(words), range(inner[1]), range(outer[1])):
        ready = max(fetch(0, (inn, word, bit_in), inner[0]), fetch(1, (out, word, bit_out), outer[0]))
        cycle = max(cycle, ready) + 1
    return cycle


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 7),
    columns=st.integers(1, 7),
    depth=st.integers(1, 30),
    w_bits=st.integers(1, 8),
    a_bits=st.integers(1, 8),
    port_bits=st.sampled_from([1, 2, 4, 8]),
)
def test_closed_form_equals_step_by_step_schedule(
    rows: int, columns: int, depth: int, w_bits: int, a_bits: int, port_bits: int
) -> None:
    array = BinaryArray(size=2, dot_bits=8, port_bits=port_bits, buffer_words=10**6)
    one = Product(1, rows, columns, depth)
    price = price_products(array, [one])
    assert price.cycles[0, w_bits - 1, a_bits - 1] == stepped_cycles(array, one, w_bits, a_bits)


def test_operands_larger_than_the_buffers_run_in_blocks() -> None:
    # 8 words hold 4 rows of 2 words at 1 bit: 10 rows are blocks of 4, 4 and 2, and so are 10 columns.
    whole = price_products(TINY, [Product(1, 10, 10, 16)])
    sizes = (4, 4, 2)
    blocks = price_products(TINY, [Product(1, m, n, 16) for m, n in product(sizes, sizes)])
    assert whole.left_beats[0, 0, 0] == blocks.left_beats[:, 0, 0].sum()
    assert whole.right_beats[0, 0, 0] == blocks.right_beats[:, 0, 0].sum()
    assert whole.compute_cycles[0, 0, 0] == blocks.compute_cycles[:, 0, 0].sum() == 5 * 5 * 2
    # One loop order for the whole product: no better than choosing it block by block.
    assert whole.cycles[0, 0, 0] >= blocks.cycles[:, 0, 0].sum()


def test_repeats_multiply() -> None:
    once, often = (price_products(TINY, [Product(repeats, 5, 3, 9)]) for repeats in (1, 7))
    for single, repeated in zip(once, often, strict=True):
        np.testing.assert_array_equal(7 * single, repeated)


def device(**changes: object) -> BitSerial:
    values = {"name": "x", "description": "x", "array_size": 2, "dot_bits": 8, "port_bits": 4, "buffer_words": 64}
    return BitSerial.model_validate({**values, "clock_hz": 1e6, **changes})


CONV = Layer(name="c", kind="conv", c_in=4, c_out=6, kernel=(3, 3), input_size=(5, 5), output_size=(5, 5))


def cycles_of(layer: Layer, batch: int = 1) -> np.ndarray:
    table = device().table([layer], batch=batch)
    assert table.cycles is not None
    return table.cycles[0, :8, :8]


def product_cycles(*numbers: int) -> np.ndarray:
    array = BinaryArray(size=2, dot_bits=8, port_bits=4, buffer_words=64)
    return price_products(array, [Product(*numbers)]).cycles[0]


@pytest.mark.parametrize(
    ("layer", "numbers"),
    [
        (CONV, (3, 6, 25, 36)),
        (Layer(name="f", kind="linear", c_in=9, c_out=5), (1, 5, 3, 9)),
        (Layer(name="f", kind="linear", c_in=9, c_out=5, output_size=(1, 4)), (1, 5, 12, 9)),
        (Layer(name="m", kind="matmul", c_in=8, c_out=6, groups=2, output_size=(1, 4)), (6, 3, 4, 4)),
        (Layer(name="r", kind="recurrent", c_in=8, c_out=12, output_size=(1, 10)), (10, 12, 3, 8)),
        (
            Layer(
                name="t", kind="conv_transpose", c_in=4, c_out=2, kernel=(2, 2), input_size=(3, 3), output_size=(6, 6)
            ),
            (3, 8, 9, 4),
        ),
        (
            Layer(name="d", kind="depthwise", c_in=5, c_out=5, groups=5, kernel=(3, 3), output_size=(4, 4)),
            (5, 3, 16, 27),
        ),
    ],
)
def test_lowering_at_batch_3(layer: Layer, numbers: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(cycles_of(layer, batch=3), product_cycles(*numbers))


def test_groups_use_cheaper_of_packing_and_image_by_image() -> None:
    layer = Layer(name="g", kind="conv", c_in=32, c_out=32, groups=2, output_size=(4, 4))
    packed, single = product_cycles(2, 64, 16, 64), product_cycles(8, 16, 16, 16)
    np.testing.assert_array_equal(cycles_of(layer, batch=4), np.minimum(packed, single))
    assert (single < packed).all()


def test_embedding_streams_its_rows() -> None:
    layer = Layer(name="e", kind="embedding", c_in=1000, c_out=10, output_size=(1, 6))
    assert cycles_of(layer, batch=2)[2].tolist() == [2 * 6 * 10 * 3 / 4] * 8


@pytest.mark.parametrize("layers", [mobilenet_v1(), mobilenet_v2()])
def test_depthwise_latency_dominates_edge_device(layers: tuple[Layer, ...]) -> None:
    table = load_accelerator("bismo-edge").table(layers)
    depthwise = [index for index, layer in enumerate(layers) if layer.kind == "depthwise"]
    for index in depthwise:
        assert table.bound(index, 6, 8) == "memory"
    cycles = table.cycles[depthwise].sum(axis=0)
    np.testing.assert_allclose(cycles[1, :8], cycles[5, :8], rtol=0.03)
    for bits in range(3, 8):
        assert 0.805 < cycles[bits, bits] / table.cycles[1:-1, bits, bits].sum() < 0.895


def test_float_is_not_supported() -> None:
    with pytest.raises(UnsupportedError, match="has no cost for layer 'c' at float x 8 bits"):
        device().table([CONV]).layer_cost(0, None, 8)
    assert device().peak_macs_per_s(None, 8) is None


def test_peak_and_ridge_point_of_the_published_board() -> None:
    board = load_accelerator("bismo-ultra96")
    assert 2 * board.peak_macs_per_s(1, 1) == pytest.approx(15.4e12, rel=0.005)
    assert board.peak_macs_per_s(4, 2) == board.peak_macs_per_s(1, 1) / 8
    assert board.bytes_per_s == 2 * 64 / 8 * 300e6
    assert board.ridge_point(8, 8) == board.peak_macs_per_s(8, 8) / board.bytes_per_s


def test_extrapolated_batch_has_a_note() -> None:
    assert not any("extrapolated" in note for note in device().table([CONV], batch=16).notes)
    assert any("batch 4 is extrapolated" in note for note in device().table([CONV], batch=4).notes)


def test_batch_below_one_raises() -> None:
    with pytest.raises(UnsupportedError, match="batch must be from 1 to 65536, got 0"):
        device().table([CONV], batch=0)


def test_no_layers() -> None:
    assert device().table([]).cycles.shape == (0, 9, 9)


def test_buffers_smaller_than_a_tile_raise() -> None:
    with pytest.raises(ValueError, match="buffer_words 1 cannot hold one tile"):
        device(buffer_words=1)


POWER = {"board_w": 8.0, "board_macs_per_s": 1e5, "static_w": 1.0, "dram_pj_per_bit": 5.0}


def test_energy_and_traffic_by_hand() -> None:
    one = device(power=POWER)
    # 2 x 2 dot products of 8 binary MACs at 1 MHz are 32e6 MAC/s, faster than the board; ports of 4 bits 1e6 bytes/s.
    mac_j = (8.0 - 1.0 - 8 * 1e6 * 5e-12) / 32e6
    layer = Layer(name="f", kind="linear", c_in=9, c_out=5)
    table = one.table([layer], batch=3)
    # Each line of 9 elements is 2 words: 2 beats of 4 bits, then 1; 5 rows of 3 planes, 3 columns of 2 planes.
    beats = 3 * (5 * 3 + 3 * 2)
    cost = table.layer_cost(0, 3, 2)
    assert table.dram_bits[0, 2, 1] == 4 * beats
    assert cost.latency_s == cost.cycles / 1e6
    assert cost.energy_parts_j == pytest.approx(
        {"compute": 3 * 45 * 6 * mac_j, "dram": 4 * beats * 5e-12, "static": cost.latency_s * 1.0}
    )


def test_bound_is_the_longer_of_array_and_ports() -> None:
    table = device().table([Layer(name="f", kind="linear", c_in=8, c_out=2)])
    # A word of 8 bits takes 2 beats: 2 rows of w planes take 4 w, the column 2 a, the array w * a cycles.
    assert [table.bound(0, 8, bits) for bits in (1, 4, 5, 8)] == ["memory", "memory", "compute", "compute"]
    assert [table.bound(0, 1, bits) for bits in (1, 8)] == ["memory", "memory"]


def test_validated_batches_have_no_note_of_packing() -> None:
    assert [len(device().table([CONV], batch=batch).notes) for batch in (1, 16, 2)] == [1, 1, 2]


def test_power_that_memory_exceeds_raises() -> None:
    with pytest.raises(ValueError, match="together exceed board_w 8"):
        device(power={**POWER, "static_w": 8.0})


def test_one_word_for_each_row_of_a_tile_suffices() -> None:
    assert device(buffer_words=2).buffer_words == 2
