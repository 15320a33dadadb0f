"""The systolic array compared to SCALE-Sim, and its memory traffic by hand."""

import csv
from pathlib import Path

import numpy as np
import pytest

from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import width_index
from hardware_sim.layer import Layer
from hardware_sim.lowering import Product, image_product
from hardware_sim.networks import resnet50
from hardware_sim.systolic import DATAFLOWS, Systolic, array_work, refetched_bits
from hardware_sim.traffic import MovedBits


@pytest.mark.data
def test_scale_sim_rows_are_exact(reference_dir: Path) -> None:
    with (reference_dir / "scalesim_ref.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 34
    for row in rows:
        kernel = (int(row["fh"]), int(row["fw"]))
        stride = int(row["stride"])
        size = (int(row["ifh"]), int(row["ifw"]))
        # SCALE-Sim rounds the output size up where the stride does not divide.
        out = (-(-(size[0] - kernel[0] + stride) // stride), -(-(size[1] - kernel[1] + stride) // stride))
        layer = Layer(
            name=row["layer"], kind="conv", c_in=int(row["cin"]), c_out=int(row["cout"]), kernel=kernel,
            stride=(stride, stride), input_size=size, output_size=out,
        )  # fmt: skip
        array = (int(row["H"]), int(row["W"]))
        work = array_work([image_product(layer)], size=array, dataflow=DATAFLOWS[row["dataflow"]])
        assert work.cycles.tolist() == [int(row["total_cycles"])], row


@pytest.mark.parametrize(
    ("dataflow", "cycles"),
    # 4 x 2 array; K = 10, F = 5, P = 7.
    [
        ("ws", 3 * 3 * (7 + 2 * 4 + 2 - 2) - 1),
        ("os", 2 * 3 * (10 + 4 + 2 - 2) - 1),
        ("is", 3 * 4 * (5 + 2 * 4 + 2 - 2) - 1),
    ],
)
def test_closed_forms_by_hand(dataflow: str, cycles: int) -> None:
    work = array_work([Product(1, 5, 7, 10)], size=(4, 2), dataflow=DATAFLOWS[dataflow])
    assert work.cycles.tolist() == [cycles]


def test_operands_are_delivered_for_every_fold() -> None:
    work = array_work([Product(1, 5, 7, 10)], size=(4, 2), dataflow=DATAFLOWS["ws"])
    assert (work.weight_reads.item(), work.input_reads.item(), work.output_writes.item()) == (50, 70 * 3, 35 * 3)


def test_larger_operand_is_fetched_for_every_piece_of_the_smaller() -> None:
    def total(weights: float, inputs: float) -> float:
        return float(refetched_bits(MovedBits(np.array(weights), np.array(inputs), np.array(7.0)), 100.0))

    assert total(100, 1000) == 100 + 1000 + 7
    assert total(101, 1000) == 101 + 2 * 1000 + 7
    assert total(1000, 250) == 250 + 3 * 1000 + 7


def device(**changes: object) -> Systolic:
    shipped = load_accelerator("systolic-tpu").model_dump()
    return Systolic.model_validate({**shipped, "name": "x", **changes})


def test_narrow_widths_save_memory_only() -> None:
    table = device(memory_bytes_per_s=1e15).table(resnet50())
    assert (table.cycles[:, 0, 0] == table.cycles[:, 7, 7]).all()
    table = device(memory_bytes_per_s=1e7).table([Layer(name="f", kind="linear", c_in=1000, c_out=1000)])
    assert table.bound(0, 8, 8) == "memory"
    assert table.dram_bits[0, 1, 7] == 1000 * 1000 * 2 + 1000 * 8 + 1000 * 8
    assert table.latency_s[0, 1, 7] == pytest.approx(table.dram_bits[0, 1, 7] / 8 / 1e7, rel=1e-6)


def test_images_of_a_batch_are_side_by_side_except_in_matmuls() -> None:
    fast = device(memory_bytes_per_s=1e15, array_rows=4, array_columns=4)
    conv = Layer(name="c", kind="conv", c_in=4, c_out=4, input_size=(3, 3), output_size=(3, 3))
    matmul = Layer(name="m", kind="matmul", c_in=4, c_out=4, input_size=(1, 9), output_size=(1, 9))
    table = fast.table([conv, matmul], batch=3)
    one = 9 + 2 * 4 + 4 - 2
    assert table.cycles[:, 7, 7].tolist() == [one + 2 * 9 - 1, 3 * (one - 1)]


def test_float_is_not_supported() -> None:
    table = device().table(resnet50())
    assert np.isnan(table.latency_s[:, width_index(None)]).all()
    assert np.isnan(table.energy_j[:, :, width_index(None)]).all()


def test_buffer_smaller_than_a_tile_raises() -> None:
    with pytest.raises(ValueError, match="buffer_bytes 131071 cannot hold one tile: two of 256 x 256 bytes are 131072"):
        device(buffer_bytes=131071)


def test_energy_by_hand() -> None:
    one = device(array_rows=4, array_columns=2, dataflow="ws", dram_pj_per_bit=10.0, static_w=3.0, buffer_bytes=2**15)
    # Two images: a product of 5 rows, 2 * 7 columns and depth 10.
    layer = Layer(name="f", kind="linear", c_in=10, c_out=5, input_size=(1, 7), output_size=(1, 7))
    table = one.table([layer], batch=2)
    cost = table.layer_cost(0, 4, 2)
    # Depth 10 folds 3 times along 4 rows, 5 outputs 3 times along 2 columns.
    sram_bits = 50 * 4 + 140 * 3 * 2 + 70 * 3 * 32
    dram_bits = 50 * 4 + 140 * 2 + 70 * 8
    assert table.dram_bits is not None
    assert table.dram_bits[0, 3, 1] == dram_bits
    assert cost.energy_parts_j == pytest.approx(
        {
            "compute": 2 * 350 * 0.3e-12,
            "sram": sram_bits * 0.31e-12,
            "dram": dram_bits * 10e-12,
            "static": cost.latency_s * 3.0,
        }
    )


def test_peak_and_ridge_point_are_those_of_the_array_at_every_integer_width() -> None:
    one = device(array_rows=4, array_columns=2, clock_hz=1e6, memory_bytes_per_s=2e6)
    assert one.peak_macs_per_s(8, 8) == one.peak_macs_per_s(1, 2) == 8e6
    assert (one.peak_macs_per_s(None, 8), one.peak_macs_per_s(8, None)) == (None, None)
    assert (one.bytes_per_s, one.ridge_point(8, 8), one.ridge_point(None, 8)) == (2e6, 4.0, None)


def test_memory_bound_layer_takes_whole_cycles() -> None:
    one = device(clock_hz=1e6, memory_bytes_per_s=3e6)
    table = one.table([Layer(name="f", kind="linear", c_in=1000, c_out=1000)])
    # 1002000 bytes at 3 bytes a cycle, and half of the weights.
    assert table.cycles is not None
    assert [table.cycles[0, 7, 7], table.cycles[0, 3, 7]] == [334000, 167334]
    assert table.latency_s[0, 7, 7] == pytest.approx(0.334)


def test_buffer_of_just_a_tile_is_accepted() -> None:
    assert device(buffer_bytes=131072).buffer_bytes == 2 * 256 * 256
