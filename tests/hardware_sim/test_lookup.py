"""Measured tables: lookups, unsupported requests, and messages for invalid files."""

from pathlib import Path

import numpy as np
import pytest

from hardware_sim.catalog import DeviceError, load_accelerator
from hardware_sim.cost import UnsupportedError, width_index
from hardware_sim.layer import Layer
from hardware_sim.networks import mobilenet_v2

A = Layer(name="a", kind="linear", c_in=8, c_out=4)
B = Layer(name="b", kind="linear", c_in=4, c_out=2)
CSV = """layer,w_bits,a_bits,latency_s,energy_j
a,8,8,1e-3,2e-3
a,4,8,5e-4,
b,8,8,2e-3,1e-3
b,float,float,9e-3,8e-3
"""
TOML = """
kind = "lookup"
name = "board"
description = "a board"
table_file = "times.npy"
unit = "cycles"
clock_hz = 1e6
batch = 16
w_bits = [4, 8]
a_bits = [8]
"""


def csv_file(folder: Path, text: str = CSV) -> Path:
    path = folder / "my board.csv"
    path.write_text(text)
    return path


def npy_device(folder: Path, array: np.ndarray | None = None, toml: str = TOML) -> Path:
    np.save(folder / "times.npy", np.array([[[10], [20]], [[30], [40]]]) if array is None else array)
    path = folder / "board.toml"
    path.write_text(toml)
    return path


def test_csv_file_as_device(tmp_path: Path) -> None:
    device = load_accelerator(csv_file(tmp_path))
    assert (device.name, device.batch) == ("my-board", 1)
    cost = device.table([A, B]).policy_cost((8, 8), (8, 8))
    assert (cost.latency_s, cost.energy_j, cost.cycles) == (3e-3, 3e-3, None)
    assert device.table([B]).layer_cost(0, None, None).latency_s == 9e-3


def test_missing_pair_raises_when_used(tmp_path: Path) -> None:
    table = load_accelerator(csv_file(tmp_path)).table([A, B])
    with pytest.raises(UnsupportedError, match="my-board has no cost for layer 'b' at 4 bits x 8 bits"):
        table.policy_cost((8, 4), (8, 8))
    with pytest.raises(UnsupportedError, match="layer 'a' at 4 bits x 8 bits"):
        table.layer_cost(0, 4, 8)  # its energy was not measured


def test_one_of_the_two_costs_suffices(tmp_path: Path) -> None:
    device = load_accelerator(csv_file(tmp_path, "w_bits,layer,energy_j,a_bits\n8,a,3e-3,8\n"))
    table = device.table([A])
    assert table.latency_s is None
    assert table.layer_cost(0, 8, 8).energy_j == 3e-3
    with pytest.raises(UnsupportedError, match="does not model latency"):
        table.of("latency")


def test_missing_layer_raises_and_extra_layer_is_ignored(tmp_path: Path) -> None:
    device = load_accelerator(csv_file(tmp_path))
    assert device.table([B]).layer_cost(0, 8, 8).latency_s == 2e-3
    with pytest.raises(UnsupportedError, match=r"my board\.csv has no rows for c"):
        device.table([A, Layer(name="c", kind="linear", c_in=1, c_out=1)])


def test_round_up_uses_next_wider_measured_pair(tmp_path: Path) -> None:
    csv_file(tmp_path)
    path = tmp_path / "board.toml"
    path.write_text('kind = "lookup"\nname = "b"\ndescription = "b"\ntable_file = "my board.csv"\nround_up = true\n')
    table = load_accelerator(path).table([A, B])
    assert table.latency_s is not None
    assert table.latency_s[0, width_index(3), width_index(5)] == 5e-4  # 4 x 8 holds it with fewer bits than 8 x 8
    assert table.latency_s[0, width_index(5), width_index(2)] == 1e-3
    assert table.latency_s[1, width_index(2), width_index(2)] == 2e-3
    assert table.latency_s[1, width_index(8), width_index(None)] == 9e-3
    assert np.isnan(table.latency_s[0, width_index(None), width_index(8)])  # nothing wider was measured
    assert np.isnan(table.energy_parts_j["measured"][0, width_index(3), width_index(5)])  # nor the energy of 4 x 8
    assert "widths that it lacks cost what the next wider ones do" in table.notes


def test_csv_may_have_batch_and_spread(tmp_path: Path) -> None:
    text = "layer,w_bits,a_bits,latency_s,energy_j,latency_iqr_s,batch\na,8,8,1e-3,,1e-5,4\n"
    device = load_accelerator(csv_file(tmp_path, text))
    assert device.batch == 4
    assert device.table([A]).layer_cost(0, 8, 8).latency_s == 1e-3
    with pytest.raises(DeviceError, match="line 3: batch '1', but the device's is 4"):
        load_accelerator(csv_file(tmp_path, text + "b,8,8,1e-3,,1e-5,1\n"))
    with pytest.raises(DeviceError, match="line 2: batch '0', but the device's is 1"):
        load_accelerator(csv_file(tmp_path, text.replace(",4", ",0")))


def test_latency_from_instructions_is_called_an_estimate(tmp_path: Path) -> None:
    text = "layer,w_bits,a_bits,instructions,latency_s,batch\na,8,8,480000,1e-3,1\n"
    table = load_accelerator(csv_file(tmp_path, text)).table([A])
    cost = table.layer_cost(0, 8, 8)
    assert (cost.latency_s, cost.cycles) == (1e-3, None)
    assert any("instructions are not cycles" in note for note in table.notes)
    assert not any("instructions" in note for note in load_accelerator(csv_file(tmp_path)).table([A]).notes)


def test_other_batch_raises(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="my-board was measured at batch 1, not 4"):
        load_accelerator(csv_file(tmp_path)).table([A], batch=4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: columns are missing; they must be layer, w_bits, a_bits and latency_s or energy_j or both"),
        ("layer,w_bits,a_bits\n", "line 1: columns are 'layer, w_bits, a_bits'; they must be"),
        (CSV.replace("latency_s", "latency_ms"), "line 1: columns are .*latency_ms"),
        (CSV + "a,8\n", "line 6: 2 cells, but 5 columns"),
        (CSV + "b,9,8,1,1\n", "line 6: width '9' is neither 1 to 8 nor float"),
        (CSV + "b,-1,8,1,1\n", "line 6: width '-1'"),
        (CSV + "b,4,8,fast,1\n", "line 6: latency_s 'fast' is not a number"),
        (CSV + "b,4,8,-1,1\n", "line 6: latency_s must be finite and not negative, got -1"),
        (CSV + "b,4,8,inf,1\n", "line 6: latency_s must be finite and not negative, got inf"),
        (CSV + "b,4,8,1,nan\n", "line 6: energy_j must be finite and not negative, got nan"),
        (CSV + "a,8,8,1,1\n", "line 6: layer 'a' at 8 x 8 bits was given before"),
        (CSV + 'a,"8', "not a CSV file"),
    ],
)
def test_invalid_csv_raises(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message) as caught:
        load_accelerator(csv_file(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_array_with_a_device_file(tmp_path: Path) -> None:
    device = load_accelerator(npy_device(tmp_path))
    table = device.table([A, B])
    assert table.layer_cost(1, 4, 8).latency_s == pytest.approx(30e-6)
    assert table.layer_cost(1, 8, 8).cycles == pytest.approx(40)
    assert np.isnan(table.latency_s[0, width_index(4), width_index(4)])
    with pytest.raises(UnsupportedError, match="has 2 layers without names, the network 1"):
        device.table([A])


def test_array_with_names(tmp_path: Path) -> None:
    device = load_accelerator(npy_device(tmp_path, toml=TOML + 'layers = ["b", "a"]\n'))
    assert device.table([A]).layer_cost(0, 8, 8).latency_s == pytest.approx(40e-6)


@pytest.mark.parametrize(("unit", "seconds"), [("s", 10.0), ("ms", 10e-3), ("us", 10e-6)])
def test_units(tmp_path: Path, unit: str, seconds: float) -> None:
    toml = TOML.replace('"cycles"', f'"{unit}"').replace("clock_hz = 1e6\n", "")
    table = load_accelerator(npy_device(tmp_path, toml=toml)).table([A, B])
    assert table.layer_cost(0, 4, 8).latency_s == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("array", "toml", "message"),
    [
        (None, TOML.replace("times.npy", "none.npy"), "table_file: no file"),
        (None, TOML.replace("times.npy", "times.txt"), "must end in .csv or .npy"),
        (None, TOML.replace("clock_hz = 1e6\n", ""), "unit 'cycles' needs clock_hz"),
        (None, TOML.replace("w_bits = [4, 8]\n", ""), "needs w_bits and a_bits"),
        (None, TOML.replace("[4, 8]", "[4, 9]"), "w_bits.1: input should be less than or equal to 8, got 9"),
        (
            None,
            TOML.replace("[4, 8]", "[2, 4, 8]"),
            r"shape \(2, 2, 1\), but layers, w_bits and a_bits make \(2, 3, 1\)",
        ),
        (None, TOML.replace('"cycles"', '"hours"'), "unit: input should be 'cycles', 's', 'ms' or 'us', got 'hours'"),
        (None, TOML + 'layers = ["a"]\n', r"make \(1, 2, 1\)"),
        (np.zeros((2, 2)), TOML, r"must be numbers \[layer, w_bits, a_bits\], got float64 \(2, 2\)"),
        (np.full((2, 2, 1), np.nan), TOML, "must be finite and not negative"),
        (np.full((2, 2, 1), -1), TOML, "must be finite and not negative"),
        (np.full((2, 2, 1), "x"), TOML, "must be numbers"),
    ],
)
def test_bad_array_devices(tmp_path: Path, array: np.ndarray | None, toml: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message) as caught:
        load_accelerator(npy_device(tmp_path, array, toml))
    assert "\n" not in str(caught.value)


def test_truncated_array_raises(tmp_path: Path) -> None:
    path = npy_device(tmp_path)
    array = tmp_path / "times.npy"
    array.write_bytes(array.read_bytes().replace(b"(2, 2, 1), }        ", b"(2, 2, 999999999), }"))
    with pytest.raises(DeviceError, match=r"not a \.npy array"):
        load_accelerator(path)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    path = npy_device(tmp_path)
    np.save(tmp_path / "times.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DeviceError, match=r"not a \.npy array"):
        load_accelerator(path)


def test_csv_with_keys_of_arrays_raises(tmp_path: Path) -> None:
    csv_file(tmp_path)
    path = tmp_path / "board.toml"
    path.write_text(TOML.replace("times.npy", "my board.csv"))
    with pytest.raises(DeviceError, match=r"unit, clock_hz, w_bits, a_bits: only for a \.npy table"):
        load_accelerator(path)


def test_csv_with_a_device_file(tmp_path: Path) -> None:
    csv_file(tmp_path)
    path = tmp_path / "board.toml"
    path.write_text('kind = "lookup"\nname = "b"\ndescription = "b"\ntable_file = "my board.csv"\nbatch = 16\n')
    assert load_accelerator(path).table([A]).batch == 16


def test_bare_array_raises_with_a_hint(tmp_path: Path) -> None:
    npy_device(tmp_path)
    with pytest.raises(DeviceError, match=r"describe it in a \.toml device of kind 'lookup'"):
        load_accelerator(tmp_path / "times.npy")


def test_csv_named_like_a_shipped_device(tmp_path: Path) -> None:
    (tmp_path / "bismo-edge.csv").write_text(CSV)
    with pytest.raises(DeviceError, match="is the name of a shipped device"):
        load_accelerator(tmp_path / "bismo-edge.csv")


@pytest.mark.data
def test_haqs_released_table_is_a_device(reference_dir: Path, tmp_path: Path) -> None:
    array = np.load(reference_dir / "haq_mobilenetv2_bismo_cloud.npy", allow_pickle=False)
    toml = TOML.replace("[4, 8]", str(list(range(1, 9)))).replace("[8]", str(list(range(1, 9)))).replace("1e6", "200e6")
    table = load_accelerator(npy_device(tmp_path, array, toml)).table(mobilenet_v2())
    modelled = load_accelerator("bismo-cloud").table(mobilenet_v2())
    np.testing.assert_allclose(table.latency_s, modelled.latency_s, rtol=1e-12)


def test_columns_that_cannot_be_printed_are_shown_by_their_codes(tmp_path):
    path = tmp_path / "costs.csv"
    path.write_text("layer,\x02,w_bits\nconv1,8,8\n")
    with pytest.raises(DeviceError, match=r"columns are 'layer, .x02, w_bits'; they must be layer, w_bits") as caught:
        load_accelerator(path)
    assert str(caught.value).isprintable()
