"""Which settings hold for a policy, what a run keeps of its network, and which code files may name."""

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from haq.__main__ import main
from haq.config import search_config
from haq.errors import UserError
from haq.experiment.inputs import Inputs
from haq.experiment.policy_source import policy_source, user_callables
from haq.experiment.stored_example import load_example, save_example
from haq.experiment.stored_layers import MAX_LAYERS, load_layers, save_layers
from haq.layer_bits import LayerBits, uniform_bits
from haq.network.layers import Site, Trace
from haq.network.tracing.weighted_calls import WeightSlice
from haq.policy import Policy
from haq.reporting.explanation.explain import explain
from haq.runs.code_origins import record_callables, require_recorded
from haq.runs.run_folder import RunFolder
from haq.runs.tensor_files import load_tensors, save_tensors
from hardware_sim.layer import Layer
from hardware_sim.networks import resnet18

SOURCE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3, stride=3), nn.ReLU(), nn.Flatten(),
                         nn.Linear(16, 2))

def data():
    generator = torch.Generator().manual_seed(1)
    items = [(torch.randn(1, 8, 8, generator=generator) + index % 2, index % 2) for index in range(24)]
    return {name: items for name in ("calibration", "search", "report", "train")}
"""
OWN = ("--model", "own_nets:net", "--data", "own_nets:data")
SEARCH = (
    "--episodes",
    "20",
    "--budget",
    "0.7",
    "--first-last-bits",
    "free",
    "--quiet",
    "--agent",
    "random",
    "--engine",
    "torch",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a module of models and data, and a finished search of them."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "own_nets.py").write_text(SOURCE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HAQ_CACHE", str(folder / "cache"))
        assert main(["search", *OWN, "--out", "run", *SEARCH]) == 0
    yield folder
    sys.modules.pop("own_nets", None)


@pytest.fixture
def user_folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of that folder, as the current one of a user with a cache of his own."""
    folder = tmp_path / "work"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path / "cache"))
    sys.modules.pop("own_nets", None)
    record_callables(Path("run"), OWN[1::2])
    yield folder
    sys.modules.pop("own_nets", None)


@pytest.fixture
def run(user_folder: Path) -> Path:  # noqa: ARG001 - it is the current folder
    """The run in the user's folder."""
    return Path("run")


def test_flag_wins_over_run_and_run_over_policy(tmp_path: Path) -> None:
    layers = uniform_bits(resnet18(), w_bits=8, a_bits=8)
    policy = Policy(model="torchvision:resnet18", hardware="gpu-t4", objective="latency", layers=layers)
    path = tmp_path / "policy.json"
    policy.save(path)
    alone = policy_source(path, search_config()).config
    assert (alone.model, alone.hardware, alone.input) == ("torchvision:resnet18", "gpu-t4", None)
    run = {"model": "torchvision:resnet34", "hardware": "bismo-edge", "input": [3, 64, 64], "unknown": 1}
    (tmp_path / "config.json").write_text(json.dumps(run))
    beside = policy_source(path, search_config(batch=4)).config
    assert (beside.model, beside.hardware) == ("torchvision:resnet34", "bismo-edge")
    assert (beside.input, beside.batch) == ((3, 64, 64), 4)
    assert policy_source(tmp_path, search_config(hardware="bismo-cloud")).config.hardware == "bismo-cloud"
    assert policy_source(path, search_config(), inherited=("input",)).config.hardware == "gpu-t4"


@pytest.mark.parametrize("flag", ["--crop", "--resize"])
def test_another_size_of_images_is_traced_anew(flag: str, run: Path) -> None:
    given = {flag.removeprefix("--"): 4}
    assert policy_source(run, search_config()).layers() is not None
    assert policy_source(run, search_config(**given)).layers() is None
    assert policy_source(run, search_config(**given)).example() is None


def test_learned_run_keeps_the_input_of_its_trace(run: Path) -> None:
    expected = load_example(RunFolder(run))
    assert expected is not None
    stored = expected + 1
    save_tensors(run / "example.safetensors", {"input": stored})
    assert main(["finetune", str(run), "--epochs", "1", "--quiet", "--out", "learned"]) == 0
    kept = load_example(RunFolder(Path("learned")))
    assert kept is not None
    assert kept.equal(stored)


def test_damaged_extra_state_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", str(run), "--epochs", "1", "--quiet", "--out", "learned"]) == 0
    path = Path("learned/network.safetensors")
    for text in ("[1]", "{", '"a"'):
        path.write_bytes(save(load(path.read_bytes()), metadata={"state": text}))
        assert main(["evaluate", "learned"]) == 2
        assert "network.safetensors is damaged" in capsys.readouterr().err


def test_folder_without_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no policy\.json"):
        policy_source(tmp_path, search_config())


def test_run_and_its_policy_file_are_the_same_argument(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []
    for source in (run, run / "policy.json"):
        assert main(["evaluate", str(source), "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out))
    assert answers[0] == answers[1]
    assert answers[0]["accuracy"] == json.loads((run / "summary.json").read_text())["accuracy"]


@pytest.mark.parametrize(
    "command",
    [("simulate",), ("simulate", "--compare", "bismo-edge,gpu-t4"), ("plot", "--kind", "roofline"), ("explain",)],
)
def test_stored_layers_stand_in_for_the_network(command: tuple[str, ...], run: Path, user_folder: Path) -> None:
    (user_folder / "own_nets.py").unlink()
    name, *flags = command
    assert main([name, str(run), *flags]) == 0


def test_stored_layers_give_the_costs_of_the_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", str(run), "--json"]) == 0
    totals = json.loads(capsys.readouterr().out)["totals"]
    cost = json.loads((run / "policy.json").read_text())["cost"]
    assert {name: totals[name] for name in cost} == pytest.approx(cost)


@pytest.mark.parametrize("learning", [("reconstruct", "--steps", "2"), ("finetune", "--epochs", "1")])
def test_learning_takes_model_and_data_from_the_run(learning: tuple[str, ...], run: Path) -> None:
    name, *flags = learning
    assert main([name, str(run), *flags, "--quiet", "--out", "learned"]) == 0
    config = json.loads(Path("learned/config.json").read_text())
    assert (config["model"], config["data"]) == ("own_nets:net", "own_nets:data")
    assert main(["evaluate", "learned"]) == 0


def test_learning_does_not_start_from_a_trained_network(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", str(run), "--epochs", "1", "--quiet", "--out", "tuned"]) == 0
    assert main(["reconstruct", "tuned", "--steps", "2", "--quiet", "--out", "learned"]) == 2
    assert "give tuned/policy.json to start from the network before its training" in capsys.readouterr().err


@pytest.mark.usefixtures("user_folder")
def test_search_with_finetuning_saves_the_network_that_it_reports(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "--model",
        "own_nets:net",
        "--data",
        "own_nets:data",
        "--out",
        "tuned",
        "--episode-finetune-steps",
        "2",
    )
    settings = ("--episodes", "3", "--budget", "0.7", "--first-last-bits", "free", "--agent", "random", "--quiet")
    assert main(["search", *arguments, *settings]) == 0
    capsys.readouterr()
    assert main(["evaluate", "tuned", "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["accuracy"]
    assert accuracy == json.loads(Path("tuned/summary.json").read_text())["accuracy"]
    Path("tuned/network.safetensors").unlink()
    assert main(["evaluate", "tuned"]) == 2
    assert "network.safetensors is missing" in capsys.readouterr().err


def test_own_run_calls_its_code_and_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run)]) == 0
    assert "calling own_nets:net from" in capsys.readouterr().err


HOSTILE = """
from pathlib import Path
Path({mark!r}).write_text("called")
raise SystemExit(7)
"""
COMMANDS = (
    ("evaluate",),
    ("simulate",),
    ("simulate", "--compare", "gpu-t4"),
    ("plot", "--kind", "roofline"),
    ("plot", "--kind", "specialization", "--compare", "gpu-t4"),
    ("plot", "--kind", "policy"),
    ("explain",),
    ("explain", "--robust"),
    ("reconstruct", "--steps", "1", "--out", "learned"),
    ("finetune", "--epochs", "1", "--out", "learned"),
)


NEED_NETWORK = ("evaluate", "reconstruct", "finetune")


@pytest.mark.parametrize(
    ("spec", "has_layers"),
    [("evil:f", True), ("downloads.evil:f", False), ("downloads.run.evil:f", False), ("os:abort", False)],
)
def test_downloaded_run_calls_no_code(
    spec: str, has_layers: bool, run: Path, user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = user_folder / "called"
    hostile = Path("downloads/run")
    shutil.copytree(run, hostile)
    for place in (hostile, hostile.parent, user_folder):
        (place / "evil.py").write_text(HOSTILE.format(mark=str(mark)))
    for name in ("config.json", "policy.json"):
        text = (hostile / name).read_text().replace("own_nets:net", spec).replace("own_nets:data", spec)
        (hostile / name).write_text(text)
    if not has_layers:
        (hostile / "layers.json").unlink()
    for name, *flags in COMMANDS:
        code = main([name, str(hostile), *flags])
        answer = capsys.readouterr().err
        needs_network = (
            name in NEED_NETWORK or "--robust" in flags or (not has_layers and flags != ["--kind", "policy"])
        )
        assert code == (2 if needs_network else 0), answer
        assert f"add --model {spec}" in answer or not needs_network
        assert not mark.exists()


def test_policy_without_a_run_calls_no_code(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("downloads").mkdir()
    shutil.copy(run / "policy.json", "downloads/policy.json")
    assert main(["evaluate", "downloads/policy.json"]) == 2
    assert "add --model own_nets:net" in capsys.readouterr().err
    assert main(["evaluate", "downloads/policy.json", *OWN]) == 0


def test_changed_code_is_not_called(run: Path, user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (user_folder / "own_nets.py").write_text(SOURCE + "\nprint('changed')\n")
    assert main(["evaluate", str(run)]) == 2
    assert "add --model own_nets:net --data own_nets:data" in capsys.readouterr().err


def test_module_of_an_editable_installation_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "elsewhere" / "nets.py"
    source.parent.mkdir()
    source.write_text(SOURCE)

    class Finder:
        @staticmethod
        def find_spec(name: str, *_: object) -> ModuleSpec | None:
            return spec_from_file_location(name, source) if name == "editable_nets" else None

    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path / "cache"))
    record_callables(tmp_path / "run", ["editable_nets:net"])
    (line,) = require_recorded(tmp_path / "run", {"model": "editable_nets:net"})
    assert str(source) in line


def test_record_that_others_may_write_does_not_count(run: Path, tmp_path: Path) -> None:
    (record,) = (tmp_path / "cache" / "runs").iterdir()
    named = {"model": "own_nets:net"}
    assert require_recorded(run, named)
    record.chmod(0o666)
    with pytest.raises(UserError, match="add --model own_nets:net"):
        require_recorded(run, named)
    record.chmod(0o600)
    record.parent.chmod(0o777)
    with pytest.raises(UserError, match="add --model own_nets:net"):
        require_recorded(run, named)


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ('"c_in": 1,', '"c_in": 99999999999,', "a size above"),
        ('"tied_to": null', '"tied_to": "nowhere"', "which does not come before it"),
        ('"name": "2"', '"name": "0"', "two layers of one name"),
        ('"kind": "conv"', '"kind": "magic"', "kind"),
        ('"layers"', '"layerz"', "layers"),
    ],
)
def test_damaged_layers_are_refused(
    before: str, after: str, complaint: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (run / "layers.json").read_text()
    assert before in text
    (run / "layers.json").write_text(text.replace(before, after, 1))
    assert main(["simulate", str(run)]) == 2
    answer = capsys.readouterr().err
    assert "layers.json is damaged" in answer
    assert complaint in answer


def test_damaged_configuration_is_one_line(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (run / "config.json").read_text()
    (run / "config.json").write_text(text[:200])
    for command in ("evaluate", "simulate"):
        assert main([command, str(run)]) == 2
        assert "config.json is damaged" in capsys.readouterr().err


def test_layers_too_large_to_price_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((run / "layers.json").read_text())
    document["layers"][0] |= {"c_out": 2**31, "output_size": [2**31, 1]}
    (run / "layers.json").write_text(json.dumps(document))
    assert main(["simulate", str(run), "--hardware", "bismo-cloud"]) == 2
    assert "weights, elements or multiplications" in capsys.readouterr().err


def test_inputs_of_any_dtype_and_networks_beyond_the_limits_stay_usable(tmp_path: Path) -> None:
    layer = Layer(name="a", kind="linear", c_in=2, c_out=2)
    many = tuple(replace(layer, name=f"a{number}") for number in range(MAX_LAYERS + 1))
    site = Site(WeightSlice("a.weight", 0, (2, 2)), 1)
    example = torch.tensor([[torch.inf, 1.0]]), torch.tensor([[3, 4]], dtype=torch.int16)
    for layers, values in zip((many, many[:1]), example, strict=True):
        run = RunFolder(tmp_path)
        save_layers(run, Trace(layers, (site,) * len(layers), (), (layers[-1].name,)))
        save_example(run, values)
        kept = load_layers(run)
        assert (kept is not None) == (len(layers) == 1)
        stored = load_example(run)
        assert stored is not None
        assert stored.equal(values)


def test_resume_with_other_weights_is_refused(run: Path, user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run / "episodes.jsonl").read_bytes()
    (user_folder / "own_nets.py").write_text(SOURCE.replace("manual_seed(0)", "manual_seed(1)"))
    more = [*SEARCH[:1], "21", *SEARCH[2:]]
    assert main(["search", *OWN, "--out", str(run), *more, "--resume"]) == 2
    assert "is another than run was started with" in capsys.readouterr().err
    assert (run / "episodes.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("0.input.range", torch.tensor(3, dtype=torch.int32)),
        ("0.weight.scale", torch.ones(3)),
        ("0.weight.scale", torch.full((4,), torch.nan)),
        ("0.output.bias", torch.zeros(3)),
    ],
)
def test_damaged_quantizers_are_one_line(
    name: str, value: torch.Tensor, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_tensors(run / "quantizers.safetensors")
    assert tensors is not None
    assert name in tensors
    save_tensors(run / "quantizers.safetensors", tensors | {name: value})
    assert main(["evaluate", str(run)]) == 2
    assert "quantizers.safetensors does not fit the policy" in capsys.readouterr().err


def test_explanation_with_a_given_model_calls_no_unknown_data(run: Path) -> None:
    hostile = Path("downloads")
    shutil.copytree(run, hostile)
    text = (hostile / "config.json").read_text().replace("own_nets:data", "evil:f")
    (hostile / "config.json").write_text(text)
    with pytest.raises(UserError, match="add --data evil:f"):
        explain(hostile, inputs=Inputs(model=nn.Linear(1, 1)))


def test_control_characters_of_files_do_not_reach_the_terminal(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((run / "config.json").read_text()) | {"weights": "a\x1b[31mb"}
    (run / "config.json").write_text(json.dumps(document))
    assert main(["evaluate", str(run)]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_only_names_of_users_callables_are_code() -> None:
    library = search_config(model="torchvision:resnet18", data="imagefolder:data")
    assert user_callables(library) == {}
    assert user_callables(search_config(model="nets:small", data="nets:data")) == {
        "model": "nets:small",
        "data": "nets:data",
    }


def test_a_policy_file_of_a_library_model_needs_no_record(tmp_path: Path) -> None:
    layer = LayerBits(name="conv1", kind="conv", w_bits=4, a_bits=8)
    Policy(model="torchvision:resnet18", hardware=None, objective=None, layers=(layer,)).save(tmp_path / "policy.json")
    policy_source(tmp_path / "policy.json", search_config()).allow_code()
