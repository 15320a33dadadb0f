"""Tables of instructions: rows, equal shapes, continuation, and the device that they make. Counts are made up."""

from dataclasses import replace
from pathlib import Path

import pytest

from haq.costs.measured_table import device_file
from haq.errors import UserError
from haq.execution.progress import Silent
from haq.exporters.c.measurement.table import COLUMNS, Count, InstructionSetup, measure_instructions
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import UnsupportedError
from hardware_sim.layer import Layer

CONV = Layer(name="a", kind="conv", c_in=3, c_out=4, kernel=(3, 3), input_size=(8, 8), output_size=(8, 8))
TWIN = replace(CONV, name="b", input_tensors=(1,), output_tensor=2)
FC = Layer(name="fc", kind="linear", c_in=6, c_out=5)
SETUP = InstructionSetup(model="net", input_shape=(3, 8, 8), compiler="gcc 1.0 -O2", clock_hz=1e6, widths=(4, 8))
Calls = list[tuple[str, int, int]]


class Lines(Silent):
    """Keeps all lines."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def line(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def calls() -> Calls:
    return []


@pytest.fixture
def count(calls: Calls) -> Count:
    def made_up(layer: Layer, w_bits: int, a_bits: int) -> int:
        calls.append((layer.name, w_bits, a_bits))
        return layer.macs * 10 + w_bits + a_bits

    return made_up


def test_equal_shapes_are_counted_once_and_the_table_is_a_device(tmp_path: Path, count: Count, calls: Calls) -> None:
    path, reported = tmp_path / "mine.csv", Lines()
    rows = measure_instructions([CONV, TWIN, FC], path, setup=SETUP, count=count, watcher=reported)
    pairs = [(4, 4), (4, 8), (8, 4), (8, 8)]
    assert calls == [(name, *pair) for name in ("a", "fc") for pair in pairs]
    assert [row.instructions for row in rows[:4]] == [row.instructions for row in rows[4:8]]
    assert reported.texts[2] == "fc: 308 instructions at 4/4 bits to 316 instructions at 8/8 bits"
    assert path.read_text().splitlines()[:2] == [",".join(COLUMNS), "a,4,4,69128,0.069128,1"]
    device = load_accelerator(device_file(path))
    assert "instructions at 1 MHz, gcc 1.0 -O2" in device.description
    table = device.table([CONV, TWIN, FC])
    assert table.layer_cost(2, 8, 8).latency_s == pytest.approx(316e-6)
    assert table.layer_cost(2, 5, 3).latency_s == pytest.approx(312e-6)
    assert any("instructions are not cycles" in note for note in (*table.notes, *device.validation))
    assert load_accelerator(path).table([FC]).layer_cost(0, 4, 4).latency_s == pytest.approx(308e-6)


def test_unfinished_table_is_continued(tmp_path: Path, count: Count, calls: Calls) -> None:
    path = tmp_path / "mine.csv"
    whole = measure_instructions([CONV, TWIN, FC], path, setup=SETUP, count=count)
    text = path.read_text()
    path.write_text("".join(text.splitlines(keepends=True)[:7]) + "b,8,4,69")  # killed while it wrote
    calls.clear()
    assert measure_instructions([CONV, TWIN, FC], path, setup=SETUP, count=count) == whole
    assert {name for name, _, _ in calls} == {"fc"}  # b has the shape of a
    assert path.read_text() == text


def test_table_of_another_setup_is_not_overwritten(tmp_path: Path, count: Count) -> None:
    path = tmp_path / "mine.csv"
    measure_instructions([FC], path, setup=SETUP, count=count)
    with pytest.raises(UserError, match=r"mine\.toml is there already, of another measurement"):
        measure_instructions([FC], path, setup=replace(SETUP, compiler="gcc 2.0 -O2"), count=count)


def test_damaged_table_is_refused(tmp_path: Path, count: Count) -> None:
    path = tmp_path / "mine.csv"
    measure_instructions([FC], path, setup=SETUP, count=count)
    path.write_text(path.read_text().replace("308", "many"))
    with pytest.raises(UserError, match=r"mine\.csv is damaged \(line 2\); delete this line to measure it again"):
        measure_instructions([FC], path, setup=SETUP, count=count)


def test_layer_without_kernel_is_refused_before_anything_is_written(tmp_path: Path, count: Count) -> None:
    odd = Layer(name="odd", kind="recurrent", c_in=4, c_out=4)
    with pytest.raises(UnsupportedError, match=r"layer odd \(recurrent\) has no C kernel"):
        measure_instructions([FC, odd], tmp_path / "mine.csv", setup=SETUP, count=count)
    assert not list(tmp_path.iterdir())
