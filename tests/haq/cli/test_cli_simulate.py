"""`haq simulate` and the pictures that price policies, as a user meets them."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.config import search_config
from haq.costs.specialization import PolicyCost
from haq.errors import UserError
from haq.experiment.loading import load_traced
from haq.experiment.specialization import compare_policies
from haq.layer_bits import uniform_bits
from haq.policy import Policy
from haq.reporting.plots.specialization import plot_specialization
from hardware_sim.catalog import device_names

Output = pytest.CaptureFixture[str]
LAYER_KEYS = {"name", "kind", "macs", "w_bits", "a_bits", "cycles", "latency_s", "energy_j", "bound"}
TOTAL_KEYS = {
    *("cycles", "latency_s", "latency_per_image_s", "energy_j", "energy_per_image_j"),
    *("weight_bytes", "overhead_bytes", "bops", "macs"),
}
NETWORKS = """
from torch import nn

def odd():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=2, dilation=2), nn.Conv2d(8, 8, 3, groups=2), nn.ConvTranspose2d(8, 4, 4, stride=2)
    )

class Bilinear(nn.Module):
    def __init__(self):
        super().__init__()
        self.entry, self.mix, self.exit = nn.Linear(6, 4), nn.Bilinear(4, 4, 4), nn.Linear(4, 2)
    def forward(self, x):
        entry = self.entry(x.flatten(1, 2))
        return self.exit(self.mix(entry, entry))
"""


def answer(words: list[str], capsys: Output) -> dict:  # type: ignore[type-arg]
    assert main([*words, "--json"]) == 0
    document: dict = json.loads(capsys.readouterr().out)  # type: ignore[type-arg]
    return document


@pytest.fixture
def policies(tmp_path: Path) -> list[str]:
    """Two policies for the digits network, in folders of their own as runs have them."""
    layers = load_traced(search_config()).layers
    paths = []
    for name, hardware, bits in (("edge", "bismo-edge", 4), ("gpu", "gpu-t4", 6)):
        path = tmp_path / name / "policy.json"
        path.parent.mkdir()
        chosen = uniform_bits(layers, w_bits=bits, a_bits=bits)
        Policy(
            model="digits_cnn", hardware=hardware, objective="latency", layers=chosen, accuracy={"report": 0.5}
        ).save(path)
        paths.append(str(path))
    return paths


@pytest.mark.parametrize("device", ["bismo-edge", "bitfusion-edge", "systolic-tpu", "gpu-t4", "mcu-cortex-m7-measured"])
def test_every_device_has_the_documented_keys_and_a_note_on_energy(device: str, capsys: Output) -> None:
    document = answer(["simulate", "--hardware", device, "--w-bits", "4"], capsys)
    assert {"hardware", "model", "batch", "layers", "totals", "notes", "limits", "refused"} <= set(document)
    assert set(document["totals"]) >= TOTAL_KEYS
    assert all(set(layer) >= LAYER_KEYS for layer in document["layers"])
    assert document["totals"]["latency_s"] == pytest.approx(sum(layer["latency_s"] for layer in document["layers"]))
    assert any("energy" in note for note in document["notes"])
    assert main(["simulate", "--hardware", device, "--w-bits", "4"]) == 0
    shown = capsys.readouterr().out
    assert all(f"note: {note}" in shown for note in document["notes"])
    if device.startswith("bismo"):
        assert "note: energy is an estimate" in shown


def test_compare_prints_a_row_per_device(capsys: Output) -> None:
    words = ["simulate", "--compare", "bismo-edge,gpu-t4", "--compare", "bismo-cloud", "--w-bits", "4"]
    document = answer(words, capsys)
    assert [device["hardware"] for device in document["devices"]] == ["bismo-edge", "gpu-t4", "bismo-cloud"]
    assert [device["batch"] for device in document["devices"]] == [1, 1, 16]
    for device, cell in zip(document["devices"], document["costs"][0], strict=True):
        alone = answer(["simulate", "--hardware", device["hardware"], "--w-bits", "4"], capsys)
        assert cell["latency_s"] == alone["totals"]["latency_s"]
        assert cell["energy_j"] == alone["totals"]["energy_j"]
        assert device["notes"] == alone["notes"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "uniform 4/8" in shown
    assert "note: bismo-edge: energy is an estimate" in shown


def test_specialization_matrix(policies: list[str], capsys: Output) -> None:
    devices = ["bismo-edge", "mcu-cortex-m7", "gpu-t4"]
    document = answer(["simulate", *policies, "--compare", ",".join(devices), "--objective", "energy"], capsys)
    assert document["objective"] == "energy"
    assert [policy["name"] for policy in document["policies"]] == ["edge", "gpu"]
    assert [policy["hardware"] for policy in document["policies"]] == ["bismo-edge", "gpu-t4"]
    assert [len(row) for row in document["costs"]] == [3, 3]
    for path, row in zip(policies, document["costs"], strict=True):
        for device, cell in zip(devices, row, strict=True):
            alone = answer(["simulate", path, "--hardware", device], capsys)
            assert cell["energy_j"] == alone["totals"]["energy_j"]
    assert document["costs"][1][2]["ratio"] == 1.0  # six bits compute as eight on this device
    assert main(["simulate", *policies, "--compare", "bismo-edge,gpu-t4"]) == 0
    shown = capsys.readouterr().out
    assert "latency of digits_cnn" in shown
    assert "made for" in shown
    assert "50.0 %" in shown  # the accuracy of the policies


def test_compare_prints_why_a_device_refuses(capsys: Output) -> None:
    words = ["simulate", "--model", "mobilenet_v1", "--compare", "mcu-cortex-m7,bismo-edge"]
    document = answer(words, capsys)
    small, edge = document["costs"][0]
    assert small["refused"].startswith("flash: 4.01 MiB of 2 MiB")
    assert (small["latency_s"], edge["refused"]) == (None, None)
    assert main(words) == 0
    assert "refused: uniform 8/8 on mcu-cortex-m7: flash" in capsys.readouterr().out


def test_limits_are_printed(capsys: Output) -> None:
    assert main(["simulate", "--hardware", "mcu-cortex-m7"]) == 0
    shown = capsys.readouterr().out
    assert "limit   flash: 29 KiB of 2 MiB\n" in shown
    assert "limit   RAM at" in shown


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "simulated_networks.py").write_text(NETWORKS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "simulated_networks", raising=False)


@pytest.mark.usefixtures("networks")
def test_unusual_layers_are_priced_or_refused_by_name(capsys: Output) -> None:
    words = ["simulate", "--model", "simulated_networks:odd", "--input", "1x9x9", "--compare", ",".join(device_names())]
    document = answer(words, capsys)
    for device, cell in zip(document["devices"], document["costs"][0], strict=True):
        if device["hardware"].startswith("mcu"):
            assert "no kernel for layer '2' (conv_transpose)" in cell["refused"]
        else:
            assert cell["latency_s"] > 0
    assert (
        main(["simulate", "--model", "simulated_networks:odd", "--input", "1x9x9", "--hardware", "mcu-cortex-m7"]) == 2
    )
    assert "no kernel for layer '2'" in capsys.readouterr().err


@pytest.mark.usefixtures("networks")
def test_layers_left_in_float_are_printed_with_the_totals(capsys: Output) -> None:
    words = ["simulate", "--model", "simulated_networks:Bilinear", "--input", "2x3x6"]
    document = answer(words, capsys)
    assert [refused["name"] for refused in document["refused"]] == ["mix"]
    for more in ([], ["--compare", "gpu-t4"]):
        assert main([*words, *more]) == 0
        assert "not priced, left in float: mix: multiplies with mix.weight" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compare", "bismo-edge,,"], "--compare has an empty name"),
        (["--compare", "bismo-edge,nothing"], "unknown device 'nothing'"),
        (["--hardware", "nothing"], "unknown device 'nothing'"),
        (["--w-bits", "9"], "less than or equal to 8"),
        (["nothing.json"], "cannot read policy nothing.json"),
        (["--batch", "0"], "--batch 0"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str, capsys: Output) -> None:
    assert main(["simulate", *words, "--json"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert message in captured.err


def test_policies_of_another_network_are_refused(policies: list[str], capsys: Output) -> None:
    words = ["simulate", *policies, "--compare", "bismo-edge", "--model", "cifar_resnet20"]
    assert main(words) == 2
    assert "does not fit cifar_resnet20" in capsys.readouterr().err


def test_plots_of_roofline_and_specialization(policies: list[str], tmp_path: Path, capsys: Output) -> None:
    folder = Path(policies[0]).parent
    assert main(["plot", str(folder), "--kind", "roofline"]) == 0
    assert main(["plot", policies[1], "--kind", "roofline", "--hardware", "systolic-tpu"]) == 0
    out = tmp_path / "matrix.svg"
    assert main(["plot", *policies, "--kind", "specialization", "--out", str(out)]) == 0
    written = [folder / "roofline.png", Path(policies[1]).with_name("policy-roofline.png"), out]
    assert capsys.readouterr().out.split() == [str(path) for path in written]
    assert all(path.stat().st_size > 1000 for path in written)


def refused(cost: PolicyCost) -> PolicyCost:
    return replace(cost, refused="too large")


def test_figure_marks_the_cheapest_policy_and_the_refused_one(policies: list[str]) -> None:
    devices = ["bismo-edge,gpu-t4,mcu-cortex-m7"]
    found = compare_policies([Path(policy) for policy in policies], search_config(objective="energy"), devices)
    first, second = found.costs
    matrix = replace(found, costs=((*first[:2], refused(first[2])), second))
    figure = plot_specialization(matrix)
    (axes,) = figure.axes
    written = [text.get_text() for text in axes.texts]
    # Four bits everywhere cost less than six, on every device that takes both.
    assert written.count("cheapest") == 3
    assert written.count("refused") == 1
    six, four = (matrix.costs[row][0].energy_j or 0.0 for row in (1, 0))
    assert f"+{100 * (six / four - 1):.1f} %" in written
    assert figure.texts[0].get_text() == "estimated energy of digits_cnn"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["edge\n50.0 %", "gpu\n50.0 %"]
    frames = [patch for patch in axes.patches if not patch.get_fill()]
    assert len(frames) == 2
    nothing = replace(matrix, costs=tuple(tuple(map(refused, row)) for row in matrix.costs))
    with pytest.raises(UserError, match="there is no energy to draw: too large"):
        plot_specialization(nothing)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{0}", "{1}"], "2 sources for one picture"),
        (["{0}", "{1}", "--kind", "specialization"], "say where with --out"),
        (["{0}", "--kind", "roofline", "--compare", "gpu-t4"], "--compare is for --kind specialization"),
        (["{0}", "--kind", "roofline", "--hardware", "mcu-cortex-m7"], "does not model its main memory"),
        (["{0}", "--kind", "roofline", "--out", "x.jpg"], "must end in .png or .svg or .pdf"),
        (["{0}", "--kind", "learning"], "no learning curve"),
    ],
)
def test_impossible_plots_are_one_line(policies: list[str], words: list[str], message: str, capsys: Output) -> None:
    assert main(["plot", *(word.format(*policies) for word in words)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err
