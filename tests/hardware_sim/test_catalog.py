"""Loading of devices, and one-line messages for invalid files."""

from pathlib import Path

import pytest

from hardware_sim.catalog import DEVICES, DeviceError, device_names, load_accelerator
from hardware_sim.file_limits import DEVICE

GOOD = """
kind = "bit_serial"
name = "mine"
description = "a chip of my own"
array_size = 4
dot_bits = 64
port_bits = 64
buffer_words = 1024
clock_hz = 100e6
"""

POWER = "[power]\nboard_macs_per_s = 1e12\nstatic_w = 3.0\ndram_pj_per_bit = 8.0\n"


def write(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


def changed(line: str) -> str:
    """The good file with the line of the same key replaced."""
    key = line.split(maxsplit=1)[0]
    return "\n".join(line if old.startswith(f"{key} ") else old for old in GOOD.splitlines())


def test_device_file_of_user_loads(tmp_path: Path) -> None:
    assert load_accelerator(write(tmp_path, GOOD)).name == "mine"
    assert load_accelerator(str(write(tmp_path, GOOD))).batch == 1


@pytest.mark.parametrize("name", device_names())
def test_shipped_devices(name: str) -> None:
    device = load_accelerator(name)
    assert device.name == name
    assert device.description
    assert device.validation
    stated = device.model_fields_set - {"sources", "validation", "batch"}
    numbers = {key for key in stated if not isinstance(getattr(device, key), str)}
    assert numbers <= set(device.sources), "every number has a source"


def test_shipped_file_by_its_path() -> None:
    assert load_accelerator(DEVICES / "bismo-edge.toml") == load_accelerator("bismo-edge")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "clock_mhz = 100\n", r"unknown key 'clock_mhz'; write clock_hz = 1e[+]08$"),
        (GOOD.replace("clock_hz = 100e6", ""), "missing key 'clock_hz'"),
        (changed('array_size = "four"'), "array_size: input should be a valid integer, got 'four'"),
        (changed('clock_hz = "100e6"'), "clock_hz: input should be a valid number, got '100e6'"),
        (changed("clock_hz = true"), "clock_hz: input should be a valid number, got True"),
        (changed("array_size = 0"), "array_size: input should be greater than or equal to 1, got 0"),
        (changed("array_size = -4"), "array_size: input should be greater than or equal to 1, got -4"),
        (changed("clock_hz = inf"), "clock_hz: input should be .*, got inf"),
        (changed("clock_hz = nan"), "clock_hz: input should be .*, got nan"),
        (changed("clock_hz = 100"), "clock_hz: input should be greater than or equal to 1000, got 100"),
        (changed("clock_hz = 1e17"), r"clock_hz: input should be less than or equal to 10+, got"),
        (changed("buffer_words = 2"), "buffer_words 2 cannot hold one tile"),
        (changed('name = "bismo-edge"'), "'bismo-edge' is the name of a shipped device"),
        (changed('name = "my chip"'), "name: string should match pattern"),
        (changed('kind = "bitserial"'), r"kind is 'bitserial' \(did you mean 'bit_serial'\?\); it must be one"),
        (GOOD.replace('kind = "bit_serial"', ""), "kind is missing"),
        (changed("kind = 3"), "kind is 3"),
        (GOOD + "[sources]\nclock = 'data sheet'\n", "sources names clock"),
        (GOOD + "[power]\nboard_w = 2.0\n", "missing key 'power.board_macs_per_s'"),
        (GOOD + POWER + "board_w = 2.0", "together exceed board_w 2"),
        (GOOD + "clock_hz = 1\n", "not TOML"),
        ("\x00\x01", "not TOML"),
        ("x = " + "[" * 100_000, "not TOML"),
        ("", "kind is missing"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DeviceError, match=message) as caught:
        load_accelerator(path)
    assert str(caught.value).startswith(repr(str(path)))
    assert "\n" not in str(caught.value)


def test_all_mistakes_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    text = changed("array_size = 0") + "\nspeed = 3\n"
    with pytest.raises(DeviceError, match=r"array_size: .*; unknown key 'speed'"):
        load_accelerator(write(tmp_path, text))


def test_file_too_large_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "huge.toml"
    with path.open("wb") as file:
        file.truncate(100 * DEVICE.max_bytes)
    with pytest.raises(DeviceError, match="larger than"):
        load_accelerator(path)


def test_binary_file(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeviceError, match="not text in UTF-8"):
        load_accelerator(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no such file"):
        load_accelerator(tmp_path / "none.toml")
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(DeviceError, match="not a file"):
        load_accelerator(folder)


def test_unknown_device_suggests_the_closest() -> None:
    with pytest.raises(DeviceError, match=r"unknown device 'bismo-egde' \(did you mean 'bismo-edge'\?\)"):
        load_accelerator("bismo-egde")
    with pytest.raises(DeviceError, match=r"known are .*bismo-cloud.*bismo-ultra96"):
        load_accelerator("abacus")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "bismo-edge\n", "x" * 5000, "x" * 5000 + ".toml", "a\0.toml", "/dev/zero"]
)
def test_hostile_names_raise(name: str) -> None:
    with pytest.raises(DeviceError) as caught:
        load_accelerator(name)
    assert "\n" not in str(caught.value)
