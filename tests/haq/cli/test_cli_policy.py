"""`haq policy`: shown, compared and imported policies, as a user meets them."""

import json
from pathlib import Path
from typing import Any

import pytest

from haq.__main__ import main
from haq.layer_bits import LayerBits
from haq.policy import CostSummary, Policy, PolicyBudget, load_policy, policy_schema

AIMET = Path(__file__).parents[1] / "interchange" / "aimet"
NET = """
from torch import nn

def net():
    features = (nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=4), nn.ReLU(), nn.Conv2d(4, 8, 1))
    return nn.Sequential(*features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
"""
Output = pytest.CaptureFixture[str]
FLAGS = ("--model", "policy_nets:net", "--input", "1x8x8")


def saved(path: Path, *bits: tuple[str, int, int | None], **fields: Any) -> str:
    layers = tuple(LayerBits(name=name, kind="conv", w_bits=w, a_bits=a) for name, w, a in bits)
    Policy(**{"model": "net", "hardware": "bismo-edge", "objective": "latency", "layers": layers, **fields}).save(path)
    return str(path)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[str, str]:
    limit = (PolicyBudget(objective="latency", value=0.012, ratio=0.6),)
    first = saved(
        tmp_path / "a.json",
        ("conv1", 4, 8),
        ("conv2", 5, None),
        cost=CostSummary(latency_s=0.01, weight_bytes=2048),
        accuracy={"report": 0.9, "search": None},
        budget=limit,
    )
    second = saved(tmp_path / "b.json", ("conv1", 3, 8), ("conv3", 8, 8), accuracy={"report": 0.8})
    return first, second


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "policy_nets.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_show_prints_layers_cost_budget_and_accuracy(pair: tuple[str, str], capsys: Output) -> None:
    assert main(["policy", "show", pair[0]]) == 0
    shown = capsys.readouterr().out
    for text in ("conv2", "float", "10 ms", "2 KiB", "budget: latency 12 ms, 0.6 of 8 bits", "report 0.9000"):
        assert text in shown
    assert main(["policy", "show", pair[0], "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(Path(pair[0]).read_text())


def test_show_takes_a_folder(finished_run: Path, capsys: Output) -> None:
    assert main(["policy", "show", str(finished_run)]) == 0
    assert "signed, per channel" in capsys.readouterr().out


def test_diff_lists_what_differs_with_cost_and_accuracy(pair: tuple[str, str], capsys: Output) -> None:
    assert main(["policy", "diff", *pair]) == 0
    shown = capsys.readouterr().out
    for text in ("4/8", "3/8", "only in A: conv2", "only in B: conv3", "0.9000", "0.8000", "10 ms"):
        assert text in shown
    assert main(["policy", "diff", *pair, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    bits = {"a": {"w_bits": 4, "a_bits": 8}, "b": {"w_bits": 3, "a_bits": 8}}
    assert document["layers"] == [{"name": "conv1", "kind": "conv", **bits}]
    assert (document["only_a"], document["only_b"]) == (["conv2"], ["conv3"])
    assert (document["a"]["cost"]["latency_s"], document["b"]["accuracy"]) == (0.01, {"report": 0.8})


def test_diff_of_equal_policies(pair: tuple[str, str], capsys: Output) -> None:
    assert main(["policy", "diff", pair[0], pair[0]]) == 0
    assert "have the same bits" in capsys.readouterr().out


def test_schema_is_that_of_the_reader(capsys: Output) -> None:
    assert main(["policy", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == policy_schema()


def test_group_without_a_command_is_one_line(capsys: Output) -> None:
    assert main(["policy"]) == 2
    assert "haq policy --help" in capsys.readouterr().err


def test_imported_table_can_be_priced_and_shown(network: Path, capsys: Output) -> None:
    Path("bits.csv").write_text("layer,w_bits,a_bits\n0,8,8\n2,4,6\n4,3,8\n7,8,8\n")
    flags = (*FLAGS, "--hardware", "bismo-edge", "--out", "policy.json")
    assert main(["policy", "import", "bits.csv", *flags]) == 0
    assert "written policy.json" in capsys.readouterr().out
    policy = load_policy(network / "policy.json")
    assert (policy.w_bits, policy.a_bits, policy.hardware) == ((8, 4, 3, 8), (8, 6, 8, 8), "bismo-edge")
    assert main(["simulate", "policy.json", *FLAGS, "--json"]) == 0
    totals = json.loads(capsys.readouterr().out)["totals"]
    assert (totals["latency_s"], totals["bops"]) == (policy.cost.latency_s, policy.cost.bops)
    assert main(["plot", "policy.json"]) == 0
    assert main(["policy", "diff", "policy.json", "policy.json"]) == 0


@pytest.mark.usefixtures("network")
def test_notes_of_an_import_leave_standard_output_to_the_document(capsys: Output) -> None:
    Path("bits.json").write_text('{"0": {"w_bits": 4}}')
    assert main(["policy", "import", "bits.json", *FLAGS, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["layers"][0]["w_bits"] == 4
    assert "left in float, since the file gives no bits: 2, 4, 7" in captured.err


@pytest.mark.usefixtures("network")
def test_refused_import_writes_nothing(capsys: Output) -> None:
    for path in (AIMET / "mixed-1.0.0.encodings", Path("missing.csv"), Path("policy_nets.py")):
        assert main(["policy", "import", str(path), *FLAGS, "--out", "policy.json"]) == 2
        error = capsys.readouterr().err
        assert error.startswith("haq: ")
        assert path.name in error
    assert not Path("policy.json").exists()
