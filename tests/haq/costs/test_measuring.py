"""Timing layers: the graphs that are timed, and the table that comes of it. No time is ever expected."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from haq.costs import measuring
from haq.costs.layer_graph import layer_graph, onnx_shape
from haq.costs.measured_table import device_file
from haq.costs.measuring import COLUMNS, Setup, Timing, measure_layers, time_layer
from haq.errors import UserError
from haq.execution.progress import Silent
from hardware_sim.catalog import load_accelerator
from hardware_sim.cost import UnsupportedError
from hardware_sim.layer import Layer

CONV = Layer(
    name="a", kind="conv", c_in=3, c_out=4, kernel=(3, 3), stride=(2, 2), input_size=(8, 9), output_size=(4, 5)
)
TWIN = replace(CONV, name="b", input_tensors=(1,), output_tensor=2)
FC = Layer(name="fc", kind="linear", c_in=6, c_out=5, input_size=(7, 1), output_size=(7, 1))
SETUP = Setup(model="net", input_shape=(3, 8, 9), batch=2, repeats=3)


def grouped(kind: str, **changes: object) -> Layer:
    values = {"name": "g", "kind": kind, "c_in": 4, "c_out": 8, "kernel": (3, 3), "groups": 2, **changes}
    return Layer(**values)  # type: ignore[arg-type]


LAYERS = {
    "strided": (CONV, (2, 4, 4, 5)),
    "unpadded": (grouped("conv", input_size=(6, 6), output_size=(4, 4)), (2, 8, 4, 4)),
    "dilated": (grouped("conv", dilation=(2, 3), input_size=(9, 9), output_size=(9, 9)), (2, 8, 9, 9)),
    "one row": (grouped("conv", kernel=(1, 4), input_size=(1, 9), output_size=(1, 9)), (2, 8, 1, 9)),
    "depthwise": (grouped("depthwise", groups=4, input_size=(5, 5), output_size=(5, 5)), (2, 8, 5, 5)),
    "transposed": (grouped("conv_transpose", stride=(2, 2), input_size=(4, 4), output_size=(8, 8)), (2, 8, 8, 8)),
    "enlarged": (grouped("conv_transpose", stride=(3, 3), input_size=(4, 4), output_size=(13, 13)), (2, 8, 13, 13)),
    "linear": (FC, (14, 5)),
}


@pytest.mark.parametrize("is_int8", [False, True], ids=["float32", "int8"])
@pytest.mark.parametrize(("layer", "shape"), LAYERS.values(), ids=LAYERS)
def test_graphs_run_and_give_outputs_of_the_layers_size(layer: Layer, shape: tuple[int, ...], is_int8: bool) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    content = layer_graph(layer, batch=2, is_int8=is_int8, generator=np.random.default_rng(0))
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs = np.ones(session.get_inputs()[0].shape, dtype=np.uint8 if is_int8 else np.float32)
    (outputs,) = session.run(None, {"x": inputs})
    assert (outputs.shape, outputs.dtype) == (shape, inputs.dtype)


def test_padding_follows_from_input_and_output_sizes() -> None:
    # Along 8: (4 - 1) * 2 + 3 = 9, so one row is added; along 9: (5 - 1) * 2 + 3 = 11, so two columns.
    assert onnx_shape(CONV, batch=1).attributes["pads"] == [0, 1, 1, 1]
    # (4 - 1) * 3 + 3 = 12 of 13 rows.
    assert onnx_shape(LAYERS["enlarged"][0], batch=1).attributes["output_padding"] == [1, 1]


def test_timing_a_layer_gives_a_positive_median_and_range() -> None:
    timing = time_layer(FC, SETUP, is_int8=True)
    assert 0 < timing.latency_s < 60
    assert 0 <= timing.latency_iqr_s < 60


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What was timed; times are made up: n seconds for the n-th."""
    made: list[tuple[str, bool]] = []

    def stub(layer: Layer, _: Setup, *, is_int8: bool) -> Timing:
        made.append((layer.name, is_int8))
        return Timing(float(len(made)), 0.25)

    monkeypatch.setattr(measuring, "time_layer", stub)
    return made


class Lines(Silent):
    """Keeps all lines."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def line(self, text: str) -> None:
        self.texts.append(text)


def test_equal_shapes_are_timed_once_and_the_table_is_a_device(tmp_path: Path, calls: list[tuple[str, bool]]) -> None:
    path, reported = tmp_path / "mine.csv", Lines()
    rows = measure_layers([CONV, TWIN, FC], path, setup=SETUP, watcher=reported)
    assert calls == [("a", False), ("a", True), ("fc", False), ("fc", True)]
    assert reported.texts[1] == "a int8: 2 s, spread 250 ms"
    assert len(reported.texts) == len(rows)
    assert [(row.layer, row.bits, row.timing.latency_s) for row in rows] == [
        *(("a", None, 1.0), ("a", 8, 2.0), ("b", None, 1.0), ("b", 8, 2.0), ("fc", None, 3.0), ("fc", 8, 4.0))
    ]
    assert path.read_text().splitlines()[:2] == [",".join(COLUMNS), "a,float,float,1.0,,0.25,2"]
    device = load_accelerator(device_file(path))
    table = device.table([CONV, TWIN, FC])
    assert (device.name, device.batch) == ("mine", 2)
    assert table.policy_cost((8, 8, 8), (8, 8, 8)).latency_s == 8.0
    assert table.policy_cost((3, 8, None), (5, 2, 8)).latency_s == 2.0 + 2.0 + 3.0
    bare = load_accelerator(path)
    assert bare.batch == 2
    with pytest.raises(UnsupportedError, match="no cost for layer 'a' at 4 bits x 8 bits"):
        bare.table([CONV]).layer_cost(0, 4, 8)


def test_unfinished_table_is_continued(tmp_path: Path, calls: list[tuple[str, bool]]) -> None:
    path = tmp_path / "mine.csv"
    whole = measure_layers([CONV, TWIN, FC], path, setup=SETUP)
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    path.write_text("".join(lines[:4]) + "b,8,8,2.")  # killed while it wrote
    calls.clear()
    again = measure_layers([CONV, TWIN, FC], path, setup=SETUP)
    assert calls == [("fc", False), ("fc", True)]  # b is as long as a
    assert [row[:2] for row in again] == [row[:2] for row in whole]
    assert path.read_text().splitlines()[:5] == text.splitlines()[:5]
    calls.clear()
    assert measure_layers([CONV, TWIN, FC], path, setup=SETUP) == again
    assert not calls


def test_table_of_another_setup_is_not_overwritten(tmp_path: Path, calls: list[tuple[str, bool]]) -> None:
    path = tmp_path / "mine.csv"
    measure_layers([FC], path, setup=SETUP)
    before = path.read_bytes()
    with pytest.raises(UserError, match=r"mine\.toml is there already, of another measurement"):
        measure_layers([FC], path, setup=replace(SETUP, threads=2))
    device_file(path).unlink()
    with pytest.raises(UserError, match=r"mine\.csv is there already"):
        measure_layers([FC], path, setup=SETUP)
    assert path.read_bytes() == before
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("table.txt", r"must end in \.csv"),
        ("nowhere/table.csv", "there is no folder .*nowhere"),
        ("bismo-edge.csv", "bismo-edge is the name of a shipped device"),
    ],
)
def test_unusable_paths_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        measure_layers([FC], tmp_path / name, setup=SETUP)
    assert not list(tmp_path.iterdir())


def test_folder_that_may_not_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda path, _: path != tmp_path)
    with pytest.raises(UserError, match=f"{tmp_path} is no folder that this user may write to"):
        measure_layers([FC], tmp_path / "table.csv", setup=SETUP)
    assert not list(tmp_path.iterdir())


def test_damaged_table_is_an_error(tmp_path: Path, calls: list[tuple[str, bool]]) -> None:
    path = tmp_path / "mine.csv"
    measure_layers([FC], path, setup=SETUP)
    path.write_text("layer,w_bits\nfc,8\n")
    with pytest.raises(UserError, match=r"is damaged \(line 2\); delete this line"):
        measure_layers([FC], path, setup=SETUP)
    assert len(calls) == 2


def test_line_torn_in_the_middle_is_an_error_with_its_number(tmp_path: Path, calls: list[tuple[str, bool]]) -> None:
    path = tmp_path / "mine.csv"
    measure_layers([CONV, FC], path, setup=SETUP)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], lines[2][:6] + "\n", *lines[3:]]))
    with pytest.raises(UserError, match=r"is damaged \(line 3\); delete this line to measure it again"):
        measure_layers([CONV, FC], path, setup=SETUP)
    (tmp_path / ".mine.csv.haq-ab12").touch()  # an unfinished file of a killed process
    path.write_text("".join([*lines[:2], *lines[3:]]))
    calls.clear()
    measure_layers([CONV, FC], path, setup=SETUP)
    assert len(calls) == 1
    assert not (tmp_path / ".mine.csv.haq-ab12").exists()


def test_kinds_that_cannot_be_timed_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    embedding = Layer(name="words", kind="embedding", c_in=100, c_out=8)
    with pytest.raises(UserError, match=r"layer 'words' \(embedding\) cannot be measured, only conv, depthwise"):
        measure_layers([FC, embedding], tmp_path / "mine.csv", setup=SETUP)
    assert not list(tmp_path.iterdir())
