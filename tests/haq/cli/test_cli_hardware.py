"""`haq hardware` as a user meets it: what it prints, and how a bad device file is answered."""

import json
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.cli import measurements
from hardware_sim.catalog import device_names, load_accelerator

GOOD = """
kind = "bit_serial"
name = "mine"
description = "my board"
array_size = 8
dot_bits = 256
port_bits = 64
buffer_words = 8192
clock_hz = 100e6
"""
SYSTOLIC = """
kind = "systolic"
name = "mine"
description = "my array"
array_rows = 64
array_columns = 64
dataflow = "ws"
clock_hz = 1e9
memory_bytes_per_s = 10e9
buffer_bytes = 4096
dram_pj_per_bit = 15.0
static_w = 1.0
"""
Output = pytest.CaptureFixture[str]


def write(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_hardware_without_a_command_lists_devices(capsys: Output) -> None:
    assert main(["hardware"]) == 0
    bare = capsys.readouterr().out
    assert main(["hardware", "list"]) == 0
    assert capsys.readouterr().out == bare
    assert all(name in bare for name in device_names())


def test_list_as_json(capsys: Output) -> None:
    for words in (["hardware", "--json"], ["hardware", "list", "--json"]):
        assert main(words) == 0
        document = json.loads(capsys.readouterr().out)
        assert [device["name"] for device in document] == list(device_names())
        assert set(document[0]) == {"name", "kind", "batch", "description"}


@pytest.mark.parametrize("name", device_names())
def test_show_prints_all_numbers_sources_and_notes(name: str, capsys: Output) -> None:
    device = load_accelerator(name)
    assert main(["hardware", "show", name]) == 0
    shown = capsys.readouterr().out
    assert main(["hardware", "show", name, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["peak_macs_per_s"]) == set(document["ridge_point_macs_per_byte"]) == {"8", "4", "2", "float"}
    assert document["peak_macs_per_s"]["8"] == device.peak_macs_per_s(8, 8)
    assert document["bytes_per_s"] == device.bytes_per_s
    for line in (*device.validation, *document["notes"]):
        assert line in shown
    for key, source in device.sources.items():
        assert f"- {key}: {source}" in shown
    assert document["notes"]


def test_show_computes_the_ridge_point(capsys: Output) -> None:
    main(["hardware", "show", "bismo-edge", "--json"])
    document = json.loads(capsys.readouterr().out)
    # 8 x 8 x 256 binary MACs at 200 MHz, 64 of them to one at 8 x 8 bits; two ports of 64 bits.
    assert document["peak_macs_per_s"] == {"8": 51.2e9, "4": 204.8e9, "2": 819.2e9, "float": None}
    assert document["bytes_per_s"] == 3.2e9
    assert document["ridge_point_macs_per_byte"] == {"8": 16.0, "4": 64.0, "2": 256.0, "float": None}


def test_estimates_are_marked(capsys: Output) -> None:
    main(["hardware", "show", "gpu-t4"])
    shown = capsys.readouterr().out
    assert "memory_bytes_per_s *" in shown
    assert "* estimated, assumed or from memory" in shown
    assert "dram_pj_per_bit *" not in shown


def test_validate_prints_the_device(tmp_path: Path, capsys: Output) -> None:
    path = write(tmp_path, GOOD + '[sources]\nclock_hz = "data sheet"\n')
    assert main(["hardware", "validate", path]) == 0
    shown = capsys.readouterr().out
    assert f"{path} is a valid device" in shown
    assert "buffer_words" in shown
    assert "8192" in shown
    assert "without a source: array_size, buffer_words, dot_bits, port_bits" in shown
    assert main(["hardware", "validate", path, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["unsourced"] == ["array_size", "buffer_words", "dot_bits", "port_bits"]
    assert document["device"]["peak_macs_per_s"]["8"] == 25.6e9


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (GOOD.replace("clock_hz = 100e6", "clock_mhz = 100"), "unknown key 'clock_mhz'; write clock_hz = 1e+08"),
        (GOOD.replace("port_bits = 64", "port_bytes = 8"), "unknown key 'port_bytes'; write port_bits = 64"),
        (SYSTOLIC.replace("memory_bytes_per_s = 10e9", "memory_gb_per_s = 10"), "write memory_bytes_per_s = 1e+10"),
        (SYSTOLIC.replace("static_w = 1.0", "static_mw = 1000.0"), "write static_w = 1"),
        (GOOD + "colour = 1\n", "unknown key 'colour'"),
        (GOOD.replace("port_bits = 64\n", ""), "missing key 'port_bits'"),
        (GOOD.replace("= 256", '= "wide"'), "dot_bits: input should be a valid integer, got 'wide'"),
        (GOOD.replace("= 256", "= true"), "dot_bits: input should be a valid integer"),
        (GOOD.replace("= 256", "= 0"), "dot_bits: input should be greater than or equal to 1, got 0"),
        (GOOD.replace("100e6", "-1.0"), "clock_hz: input should be greater than or equal to 1000"),
        (GOOD.replace("100e6", "inf"), "clock_hz: input should be a finite number, got inf"),
        (GOOD.replace("100e6", "nan"), "clock_hz: input should be a finite number, got nan"),
        (GOOD.replace("100e6", "100.0"), "clock_hz: input should be greater than or equal to 1000, got 100.0"),
        (GOOD.replace("100e6", "100e15"), "clock_hz: input should be less than or equal to 100000000000"),
        (GOOD.replace("8192", "4"), "buffer_words 4 cannot hold one tile"),
        (SYSTOLIC, "buffer_bytes 4096 cannot hold one tile: two of 64 x 64 bytes are 8192"),
        (GOOD.replace('"mine"', '"bismo-edge"'), "'bismo-edge' is the name of a shipped device; choose another"),
        (GOOD.replace("bit_serial", "bit_serail"), "kind is 'bit_serail' (did you mean 'bit_serial'?)"),
        ("\x00\x01\x02", "not TOML"),
    ],
)
def test_bad_files(tmp_path: Path, capsys: Output, text: str, answer: str) -> None:
    path = write(tmp_path, text)
    for words in (
        ["hardware", "validate", path],
        ["hardware", "show", path, "--json"],
        ["simulate", "--hardware", path],
    ):
        assert main(words) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert answer in captured.err
        assert len(captured.err) < 600


def test_large_invalid_files_are_refused_quickly(tmp_path: Path, capsys: Output) -> None:
    path = tmp_path / "garbage.toml"
    with path.open("wb") as file:
        file.write(b"\xff\x00" * 1000)
        file.truncate(100 * 2**20)
    assert main(["hardware", "validate", str(path)]) == 2
    assert "larger than 1 MiB, the limit for a device file" in capsys.readouterr().err
    table = path.rename(tmp_path / "garbage.csv")
    assert main(["hardware", "validate", str(table)]) == 2
    assert "larger than 64 MiB, the limit for a cost table" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["nothing.toml", "nothing.csv", "bismo-egde", "table.npy"])
def test_unknown_devices(name: str, capsys: Output) -> None:
    assert main(["hardware", "show", name]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


@pytest.mark.parametrize("out", ["table.txt", "nowhere/table.csv", "bismo-edge.csv"])
def test_measure_refuses_bad_paths(tmp_path: Path, capsys: Output, out: str) -> None:
    assert main(["hardware", "measure", "--out", str(tmp_path / out), "--repeats", "3"]) == 2
    assert capsys.readouterr().err.startswith("haq: --out")
    assert not list(tmp_path.iterdir())


def test_measured_table_is_a_device(tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "cpu.csv"
    words = ["hardware", "measure", "--out", str(out), "--repeats", "3", "--batch", "2", "--quiet", "--json"]
    assert main(words) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    measured = json.loads(captured.out)
    assert (measured["batch"], measured["model"], len(measured["layers"])) == (2, "digits_cnn", 30)
    assert main(["simulate", "--hardware", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["batch"] == 2
    int8 = {layer["name"]: layer["latency_s"] for layer in measured["layers"] if layer["bits"] == 8}
    assert {layer["name"]: layer["latency_s"] for layer in document["layers"]} == int8
    assert main(["simulate", "--hardware", str(out), "--w-bits", "4"]) == 2
    assert "no cost for layer 'stem.0' at 4 bits x 8 bits" in capsys.readouterr().err
    assert main(["simulate", "--hardware", measured["device"], "--w-bits", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["totals"]["latency_s"] == document["totals"]["latency_s"]


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A microcontroller whose instructions are made up."""
    monkeypatch.setattr(measurements, "find_tool", lambda _: "")
    monkeypatch.setattr(measurements, "compiler_version", lambda: "gcc 1.0 -O2")
    monkeypatch.setattr(measurements, "count_instructions", lambda layer, w, a, *, core: layer.macs + w + a)  # noqa: ARG005


@pytest.mark.usefixtures("counted")
def test_counted_instructions_are_a_device(tmp_path: Path, capsys: Output) -> None:
    out = tmp_path / "m7.csv"
    words = ["hardware", "measure", "--target", "mcu-c", "--out", str(out), "--clock", "1e6", "--quiet"]
    assert main([*words, "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured["clock_hz"], len(measured["layers"])) == (1e6, 15 * 49)
    assert main(words) == 0  # nothing is counted again
    shown = capsys.readouterr().out
    assert "instructions of an image, by bits of weights/inputs" in shown
    assert "instructions are not cycles" in shown
    assert main(["simulate", "--hardware", measured["device"], "--w-bits", "4", "--a-bits", "4", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    total = sum(row["instructions"] for row in measured["layers"] if (row["w_bits"], row["a_bits"]) == (4, 4))
    assert document["totals"]["latency_s"] == pytest.approx(total / 1e6)
    assert document["totals"]["cycles"] is None


@pytest.mark.usefixtures("counted")
def test_microcontroller_takes_one_image_at_a_time(tmp_path: Path, capsys: Output) -> None:
    words = ["hardware", "measure", "--target", "mcu-c", "--out", str(tmp_path / "m7.csv"), "--batch", "4"]
    assert main(words) == 2
    assert capsys.readouterr().err == "haq: --batch 4: --target mcu-c processes one image at a time\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "flag", "owner"),
    [
        ("mcu-c", ("--threads", "2"), "processor"),
        ("mcu-c", ("--repeats", "5"), "processor"),
        ("processor", ("--clock", "1e8"), "mcu-c"),
    ],
)
def test_options_of_another_measurement_are_refused(
    target: str, flag: tuple[str, str], owner: str, tmp_path: Path, capsys: Output
) -> None:
    assert main(["hardware", "measure", "--target", target, "--out", str(tmp_path / "m.csv"), *flag]) == 2
    expected = f"haq: {flag[0]} is an option of --target {owner}; leave it out for --target {target}\n"
    assert capsys.readouterr().err == expected
    assert not list(tmp_path.iterdir())


def test_missing_compiler_is_named_with_its_package(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    assert main(["hardware", "measure", "--target", "mcu-c", "--out", str(tmp_path / "m7.csv")]) == 2
    error = capsys.readouterr().err
    assert "arm-none-eabi-gcc is not installed; the Debian packages gcc-arm-none-eabi " in error
    assert error.count("\n") == 1
