"""Measured microcontrollers: counted layers, fitted layers, limits, and damaged tables."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from haq.network.layers import trace
from haq.network.zoo import load_model
from hardware_sim.catalog import DeviceError, load_accelerator
from hardware_sim.cost import UnsupportedError, width_index
from hardware_sim.instruction_fit import features, fit_instructions, leave_one_out_errors
from hardware_sim.instruction_table import COLUMNS, MeasuredShape, read_shapes, write_shapes
from hardware_sim.layer import Layer
from hardware_sim.mcu_measured import MeasuredMcu

PAIRS = [(w_bits, a_bits) for w_bits in (4, 8) for a_bits in (4, 8)]
TOML = """
kind = "mcu_measured"
name = "board"
description = "a board"
table_file = "board.csv"
clock_hz = 100e6
flash_bytes = 1000
ram_bytes = 2000
active_w = 0.5
"""


def conv(c_in: int, c_out: int, side: int, kernel: int = 3, stride: int = 1) -> Layer:
    size = {"input_size": (side, side), "output_size": (side // stride, side // stride)}
    return Layer(name="", kind="conv", c_in=c_in, c_out=c_out, kernel=(kernel,) * 2, stride=(stride,) * 2, **size)


def made_up(layer: Layer, w_bits: int, a_bits: int) -> int:
    """A law that the formula can express."""
    return layer.macs * (w_bits + a_bits) // 4 + 30 * layer.output_count + 7 * layer.weights_read + 100


SHAPES = [
    *(conv(3, 8, 16), conv(8, 8, 16), conv(8, 16, 8, 1), conv(16, 4, 8)),
    *(conv(16, 16, 8, 3, 2), conv(4, 32, 4, 1), conv(32, 8, 4)),
]
FC = Layer(name="", kind="linear", c_in=64, c_out=10)


@pytest.fixture
def board(tmp_path: Path) -> Path:
    measured = [MeasuredShape(one, {pair: made_up(one, *pair) for pair in PAIRS}) for one in (*SHAPES, FC)]
    (tmp_path / "board.csv").write_text(write_shapes(measured))
    path = tmp_path / "board.toml"
    path.write_text(TOML)
    return path


def test_table_is_read_as_it_was_written(board: Path) -> None:
    shapes = read_shapes(board.with_suffix(".csv"))
    assert [shape.layer for shape in shapes] == [*SHAPES, FC]
    assert shapes[1].instructions[8, 4] == made_up(SHAPES[1], 8, 4)


def test_measured_shape_costs_what_was_counted(board: Path) -> None:
    named = Layer(name="fc", kind="linear", c_in=64, c_out=10, input_tensors=(3,), output_tensor=4)
    table = load_accelerator(board).table([named])
    cost = table.layer_cost(0, 8, 8)
    assert cost.latency_s == pytest.approx(made_up(FC, 8, 8) / 100e6)
    assert cost.energy_j == pytest.approx(cost.latency_s * 0.5)
    assert cost.cycles is None  # instructions are not cycles
    assert any("instructions are not cycles" in note for note in table.notes)
    assert not any("fitted" in note for note in table.notes)


def test_widths_round_up_to_the_next_measured_pair(board: Path) -> None:
    latency_s = load_accelerator(board).table([FC]).latency_s
    assert latency_s is not None
    assert latency_s[0, width_index(1), width_index(3)] == latency_s[0, width_index(4), width_index(4)]
    assert latency_s[0, width_index(5), width_index(4)] == latency_s[0, width_index(8), width_index(4)]
    assert np.isnan(latency_s[0, width_index(None), width_index(8)])


def test_other_shapes_are_fitted(board: Path) -> None:
    between = conv(12, 12, 12)
    table = load_accelerator(board).table([between, FC], batch=2)
    assert table.layer_cost(0, 4, 8).latency_s == pytest.approx(2 * made_up(between, 4, 8) / 100e6, rel=1e-3)
    assert "1 of 2 layers have shapes that were not measured: fitted" in table.notes


def test_features_by_hand() -> None:
    # 4 x 4 positions; the windows of 2 x 2 of them lie inside the image.
    assert features(conv(2, 3, 4)).tolist() == [16 * 54, 48, 144, 54, 0.75 * 16 * 54, 1]
    # Stride 2 without padding at the top: 2 x 2 positions, of which the last row and column cross the border.
    assert features(conv(1, 1, 4, 3, 2))[4] == 0.75 * 4 * 9
    assert features(FC).tolist() == [640, 10, 10, 640, 0, 1]


def test_errors_of_the_formula_are_those_of_layers_that_it_has_not_seen() -> None:
    counts = [float(made_up(shape, 8, 8)) for shape in SHAPES]
    assert leave_one_out_errors(SHAPES, counts).max() < 1e-6
    odd = [*counts[:-1], 2 * counts[-1]]
    assert leave_one_out_errors(SHAPES, odd)[-1] == pytest.approx(0.5, rel=1e-6)
    assert (fit_instructions(SHAPES, odd).coefficients >= 0).all()


def test_flash_holds_packed_weights_and_ram_holds_bytes(board: Path) -> None:
    layer = Layer(
        name="c", kind="conv", c_in=4, c_out=8, kernel=(3, 3), input_size=(5, 5), output_size=(5, 5),
        input_tensors=(0,), output_tensor=1,
    )  # fmt: skip
    flash, ram = load_accelerator(board).table([layer]).limits
    assert flash.table[0, width_index(3), width_index(8)] == 288 * 3 / 8
    assert ram.name == "RAM at c"
    assert set(ram.table[0, :, :8].ravel()) == {100 + 200 + 10 * 36}


def test_kind_that_was_not_measured_is_refused(board: Path) -> None:
    with pytest.raises(UnsupportedError, match=r"board has no kernel for layer 'm' \(matmul\), only conv, linear"):
        load_accelerator(board).table([Layer(name="m", kind="matmul", c_in=4, c_out=4)])


def test_peak_rate_is_above_every_counted_rate(board: Path) -> None:
    device = load_accelerator(board)
    assert isinstance(device, MeasuredMcu)
    peak = device.peak_macs_per_s(8, 8)
    assert peak is not None
    assert all(shape.layer.macs / shape.instructions[8, 8] * 100e6 <= peak for shape in device.shapes)
    assert device.peak_macs_per_s(None, 8) is None


HEADER, ROW = ",".join(COLUMNS), "linear,64,10,1x1,1x1,1x1,1,1x1,1x1,8,8,900"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the same pairs of widths for every shape, and at least one"),
        ("kind,c_in\n", "columns must be kind,c_in,c_out"),
        (f"{HEADER}\n{ROW}\n{ROW}\n", "line 3: the same shape and widths as before"),
        (f"{HEADER}\n{ROW.replace('linear', 'dense')}\n", "line 2: an unknown kind"),
        (f"{HEADER}\n{ROW.replace('900', '0')}\n", "or no instructions"),
        (f"{HEADER}\n{ROW.replace('8,8', '9,8')}\n", "widths outside of 1 to 8"),
        (f"{HEADER}\n{ROW.replace('1x1', '1')}\n", "line 2: invalid literal"),
        (f"{HEADER}\n{ROW.replace('64', '-64')}\n", "every size must be at least 1"),
        (f"{HEADER}\n{ROW},1\n", "line 2: 13 cells, but 12 columns"),
        (f"{HEADER}\n{ROW}\n{ROW.replace('64', '32').replace('8,8', '4,8')}\n", "must have the same pairs of widths"),
    ],
)
def test_damaged_tables(board: Path, text: str, message: str) -> None:
    board.with_suffix(".csv").write_text(text)
    with pytest.raises(DeviceError, match=message) as caught:
        load_accelerator(board)
    assert "\n" not in str(caught.value)


def test_missing_and_huge_tables(board: Path) -> None:
    table = board.with_suffix(".csv")
    table.write_bytes(b"," * 2**23)
    with pytest.raises(DeviceError, match="is larger than"):
        load_accelerator(board)
    table.unlink()
    with pytest.raises(DeviceError, match="no file"):
        load_accelerator(board)


def test_stated_errors_of_the_shipped_formula_are_those_of_layers_left_out() -> None:
    device = load_accelerator("mcu-cortex-m7-measured")
    assert isinstance(device, MeasuredMcu)
    (stated,) = [line for line in device.validation if "left out" in line]
    for kind in ("conv", "depthwise", "linear"):
        shapes = [shape for shape in device.shapes if shape.layer.kind == kind]
        layers = [shape.layer for shape in shapes]
        pairs = shapes[0].instructions
        errors = [leave_one_out_errors(layers, [shape.instructions[pair] for shape in shapes]) for pair in pairs]
        match = re.search(rf"{kind} median ([\d.]+) %, largest ([\d.]+) %", stated)
        assert match is not None
        found = 100 * np.percentile(errors, (50, 100))
        np.testing.assert_allclose(found, [float(number) for number in match.groups()], atol=0.2)


def test_shipped_device_has_counted_every_layer_of_resnet8_and_a_mean_rate_of_it() -> None:
    """The rates of mcu-cortex-m7 are instructions per MAC of ResNet-8."""
    counted, rated = (load_accelerator(f"mcu-cortex-m7{suffix}") for suffix in ("-measured", ""))
    layers = trace(load_model("resnet8"), torch.zeros(1, 3, 32, 32)).layers
    table, coarse = counted.table(layers), rated.table(layers)
    assert not any("fitted" in note for note in table.notes)
    for w_bits in (2, 4, 8):
        for a_bits in (2, 4, 8):
            bits = [w_bits] * len(layers), [a_bits] * len(layers)
            exact, rounded = (one.policy_cost(*bits).latency_s for one in (table, coarse))
            assert rounded == pytest.approx(exact, rel=0.01)
