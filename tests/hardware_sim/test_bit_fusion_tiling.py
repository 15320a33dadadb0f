"""Schedules compared to the published simulator, and pruned compared to exhaustive search."""

import csv
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from hardware_sim.bit_fusion import BitFusion
from hardware_sim.bit_fusion_activity import Activity
from hardware_sim.bit_fusion_lowering import Call
from hardware_sim.bit_fusion_nest import FusionArray, Nest, Work
from hardware_sim.bit_fusion_tiling import Schedule, Tiles, find_schedule
from hardware_sim.catalog import load_accelerator
from hardware_sim.energy import PICO
from hardware_sim.layer import Layer, LayerKind

STEM = Layer(name="stem", kind="conv", c_in=3, c_out=4, input_tensors=(0,), output_tensor=1)

PUBLISHED_COLUMNS = {
    "Cycles": "cycles",
    "WBUF Read": "weight_read_bits",
    "WBUF Write": "weight_write_bits",
    "OBUF Read": "output_read_bits",
    "OBUF Write": "output_write_bits",
    "IBUF Read": "input_read_bits",
    "IBUF Write": "input_write_bits",
    "DRAM Read": "dram_read_bits",
    "DRAM Write": "dram_write_bits",
}
REFERENCE_COLUMNS = {
    "cycles": "cycles",
    "compute_cycles": "compute_cycles",
    "dram_rd_bits": "dram_read_bits",
    "dram_wr_bits": "dram_write_bits",
    "wbuf_rd_bits": "weight_read_bits",
    "ibuf_rd_bits": "input_read_bits",
    "obuf_rd_bits": "output_read_bits",
    "obuf_wr_bits": "output_write_bits",
}


def _as_published(**changes: object) -> BitFusion:
    device = load_accelerator("bitfusion-edge")
    assert isinstance(device, BitFusion)
    values = device.model_dump() | {"mode": "as-published", "groups": "one-by-one"} | changes
    return BitFusion.model_validate(values)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _reference_layer(row: dict[str, str]) -> Layer:
    kinds: dict[str, LayerKind] = {"conv": "conv", "pw": "conv", "dw": "depthwise", "fc": "linear"}
    return Layer(
        name=row["layer"],
        kind=kinds[row["type"]],
        c_in=int(row["cin"]),
        c_out=int(row["cout"]),
        kernel=(int(row["k"]),) * 2,
        stride=(int(row["stride"]),) * 2,
        groups=int(row["groups"]),
        input_size=(int(row["hin"]),) * 2,
        output_size=(int(row["hout"]),) * 2,
        input_tensors=(1 - int(row["im2col"]),),
    )


def _reference_call(device: BitFusion, row: dict[str, str]) -> Call:
    return device.calls([STEM, _reference_layer(row)], batch=int(row["batch"]))[1]


@pytest.mark.data
def test_every_column_of_the_696_reference_rows_is_exact(reference_dir: Path) -> None:
    device, array = _as_published(), _as_published().array
    rows = _rows(reference_dir / "bitfusion_ref.csv")
    assert len(rows) == 696
    for row in rows:
        call, w_bits, a_bits = _reference_call(device, row), int(row["w_bits"]), int(row["a_bits"])
        activity = device.activity(call, w_bits, a_bits)
        assert activity is not None
        expected = {name: int(row[column]) for column, name in REFERENCE_COLUMNS.items()}
        assert {name: int(getattr(activity, name)) for name in expected} == expected
        assert activity.cycles - activity.compute_cycles == int(row["stall_cycles"])
        assert activity.cycles / device.clock_hz == pytest.approx(float(row["latency_ms"]) * 1e-3)
        energy_uj = [row[f"energy_{part}_uJ"] for part in ("core", "sram", "dram15")]
        energy_pj = [activity.compute_pj(array), activity.sram_pj(array), activity.dram_pj(array)]
        assert np.array(energy_pj) * PICO * 1e6 == pytest.approx(np.array(energy_uj, dtype=float), rel=1e-9)
        assert call.repeats == max(1, int(row["dw_as_per_channel_calls"]))
        assert _tile(array, call, w_bits, a_bits) == row["tile_b_o_ic_oc"]


def _tile(array: FusionArray, call: Call, w_bits: int, a_bits: int) -> str:
    assert call.nest is not None
    schedule = find_schedule(array, Work(call.nest, w_bits, a_bits))
    assert schedule is not None
    batch, height, _, c_in, c_out = schedule.tile
    return f"{batch}x{height}x{c_in}x{c_out}"


def _sweep_device(row: dict[str, str]) -> BitFusion:
    # CACTI, nJ per 32-bit access by bank size in bytes: read, write; read again, energy decides between equal cycles.
    bank_nj = {
        128: (0.000683701, 0.000925317),
        2048: (0.00190318, 0.00363853),
        4096: (0.00342953, 0.00431011),
        8192: (0.00639163, 0.00556268),
        16384: (0.0099817, 0.0084209),
    }
    rows, columns = int(row["N"]), int(row["M"])
    sizes = {name: int(row[f"{name} Size (bits)"]) for name in ("WBUF", "IBUF", "OBUF")}
    weight, inputs = bank_nj[sizes["WBUF"] // (rows * columns)], bank_nj[sizes["IBUF"] // rows]
    output = _as_published().output_buffer
    return _as_published(
        array_rows=rows,
        array_columns=columns,
        port_bits=int(row["Bandwidth (bits/cycle)"]),
        weight_buffer=_buffer(sizes["WBUF"], *weight),
        input_buffer=_buffer(sizes["IBUF"], *inputs),
        output_buffer=output.model_copy(update={"bytes": sizes["OBUF"]}),
    )


def _buffer(size: int, read_nj: float, write_nj: float) -> dict[str, object]:
    return {"bytes": size, "read_pj_per_bit": read_nj * 1e3 / 32, "write_pj_per_bit": write_nj * 1e3 / 32}


def _sweep_layer(shape: dict[str, str]) -> Layer:
    kernel, stride, output = (int(shape[key]) for key in ("kernel", "stride", "output_size"))
    return Layer(
        name=shape["layer"],
        kind="linear" if shape["layer"].endswith("MatMul") else "conv",
        c_in=int(shape["c_in"]),
        c_out=int(shape["c_out"]),
        kernel=(kernel, kernel),
        stride=(stride, stride),
        input_size=(output * stride,) * 2,
        output_size=(output, output),
        input_tensors=(1 - int(shape["im2col"]),),
    )


@pytest.mark.data
def test_every_column_of_the_115_published_rows_of_known_shape_is_exact(reference_dir: Path) -> None:
    shapes = {(row["network"], row["layer"]): row for row in _rows(reference_dir / "bitfusion_shapes.csv")}
    sweep = _rows(reference_dir / "bitfusion_published_sweep.csv")
    known = [row for row in sweep if (row["Network"], row["Layer"]) in shapes]
    assert len(known) == 115
    for row in known:
        shape, device = shapes[row["Network"], row["Layer"]], _sweep_device(row)
        call = device.calls([STEM, _sweep_layer(shape)], batch=int(row["Batch size"]))[1]
        activity = device.activity(call, int(shape["w_bits"]), int(shape["a_bits"]))
        assert activity is not None
        expected = {name: int(row[column]) for column, name in PUBLISHED_COLUMNS.items()}
        assert {name: int(getattr(activity, name)) for name in expected} == expected
        assert activity.cycles - activity.compute_cycles == int(row["Memory wait cycles"])


def _exhaustive(array: FusionArray, work: Work) -> Schedule:
    """All 120 loop orders of all tiles, without any bound."""
    tiles = Tiles.fitting(array, work)
    activity = tiles.activity(list(permutations(range(5))))
    energy = activity.compute_pj(array) + activity.sram_pj(array) + activity.dram_pj(array)
    fewest = activity.cycles == activity.cycles.min()
    order, tile = np.argwhere(fewest & (energy == energy[fewest].min()))[0]
    parts = (np.broadcast_to(part, activity.cycles.shape)[order, tile] for part in activity)
    return Schedule(tuple(tiles.sizes[tile].tolist()), Activity(*parts))


@pytest.mark.data
@pytest.mark.parametrize("mode", ["as-published", "corrected"])
def test_pruned_search_equals_exhaustive_search(reference_dir: Path, mode: str) -> None:
    rows = _rows(reference_dir / "bitfusion_ref.csv")
    device = _as_published(mode=mode, groups="shared" if mode == "corrected" else "one-by-one")
    for row in rows[::7]:
        call = _reference_call(device, row)
        assert call.nest is not None
        w_bits, a_bits = int(row["w_bits"]), int(row["a_bits"])
        work = Work(call.nest, w_bits, a_bits, call.write_back.bits(w_bits, a_bits))
        assert find_schedule(device.array, work) == _exhaustive(device.array, work)


def test_pruned_search_equals_exhaustive_search_for_unequal_sides() -> None:
    array = _as_published(mode="corrected").array
    nest = Nest(2, c_in=48, c_out=80, shared_c_out=80, output_size=(7, 33), kernel=(3, 3), input_size=(7, 33))
    for w_bits, a_bits in ((2, 8), (5, 3), (8, 8)):
        work = Work(nest, w_bits, a_bits, write_back_bits=10_000)
        assert find_schedule(array, work) == _exhaustive(array, work)


def test_distinct_orders_skip_equivalent_ones() -> None:
    array = _as_published().array
    square = Nest(2, c_in=256, c_out=256, shared_c_out=256, output_size=(28, 28), input_size=(28, 28))
    assert len(Tiles.fitting(array, Work(square, 8, 8)).distinct_orders()) == 60
    single = square._replace(batch=1)
    assert len(Tiles.fitting(array, Work(single, 8, 8)).distinct_orders()) == 12
    wide = single._replace(output_size=(1, 28))
    assert len(Tiles.fitting(array, Work(wide, 8, 8)).distinct_orders()) == 6


def _small_array(mode: str = "corrected", output_bytes: int = 4096) -> FusionArray:
    buffer = {"bytes": 64, "read_pj_per_bit": 1.0, "write_pj_per_bit": 1.0}
    device = BitFusion(
        name="small",
        description="2 x 2 units",
        array_rows=2,
        array_columns=2,
        port_bits=8,
        clock_hz=1e6,
        weight_buffer=buffer,
        input_buffer=buffer,
        output_buffer={**buffer, "bytes": output_bytes},
        unit_pj_per_cycle=1.0,
        dram_pj_per_bit=10.0,
        mode=mode,
    )
    return device.array


def test_partial_sums_stay_on_chip_where_they_fit() -> None:
    """64 inputs of 8 bits for 2 outputs: 128 weights are four times what half the buffer of 64 bytes holds."""
    nest = Nest(1, c_in=64, c_out=2, shared_c_out=2)
    schedule = find_schedule(_small_array(), Work(nest, 8, 8, write_back_bits=16))
    assert schedule is not None
    activity = schedule.activity
    assert activity.dram_read_bits == 64 * 2 * 8 + 64 * 8
    assert activity.dram_write_bits == 16
    assert activity.compute_cycles == 32


def test_partial_sums_spill_only_where_c_in_is_tiled_and_they_do_not_fit() -> None:
    """With c_in outermost in four tiles, 16 positions x 2 outputs x 32 bits are spilled three times."""
    nest = Nest(16, c_in=64, c_out=2, shared_c_out=2)
    tiles = Tiles.fitting(_small_array(output_bytes=64), Work(nest, 8, 8, write_back_bits=100))
    four = tiles.only((tiles.sizes[:, 3] == 16) & (tiles.sizes[:, 0] == 1))
    c_in_outermost, c_in_innermost = (3, 0, 1, 2, 4), (0, 1, 2, 4, 3)
    activity = four.activity([c_in_outermost, c_in_innermost])
    partial_sums = 16 * 2 * 32
    assert activity.dram_write_bits.tolist() == [[3 * partial_sums + 100], [100]]
    inputs, weights = 16 * 64 * 8, 64 * 2 * 8
    assert activity.dram_read_bits.tolist() == [[weights + inputs + 3 * partial_sums], [16 * weights + inputs]]


def test_find_schedule_returns_none_if_no_tile_fits() -> None:
    nest = Nest(1, c_in=1, c_out=1, shared_c_out=1, kernel=(9, 9), input_size=(9, 9))
    assert find_schedule(_small_array(), Work(nest, 8, 8)) is None
