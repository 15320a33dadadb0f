"""The command line from outside: exit codes, the one line of a mistake, and what goes to which stream."""

import errno
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from haq.__main__ import main
from haq.config import SearchConfig
from haq.files import write_atomically
from haq.runs.run_folder import RunFolder
from haq.searching.search import SearchResult

MINE = """
import torch
from torch import nn

def no_layers(): return nn.Sequential(nn.Flatten(), nn.ReLU())
def random_weights():
    torch.manual_seed(1)
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10))
def too_few(): return nn.Sequential(nn.Flatten(), nn.Linear(256, 3))
def grey(): return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 10))
def broken(): raise OSError("no such luck")
def not_a_model(): return 42
"""


@dataclass(frozen=True)
class Answer:
    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line of a user's mistake."""
        assert self.code == 2, self.err
        assert self.out == ""
        assert self.err.startswith("haq: ")
        assert self.err.count("\n") == 1, self.err
        assert self.err.endswith("\n")
        assert "Traceback" not in self.err
        return self.err[5:-1]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    def call(*arguments: object) -> Answer:
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capfd.readouterr())

    return call


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Models of one's own in the current folder."""
    module = f"cli_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return lambda name: f"{module}:{name}"


def read(path: Path) -> Any:
    return json.loads(path.read_text())


# Help.

SHARED = {"--model", "--weights", "--hardware", "--json", "--batch", "--data"}
EVALUATING = {
    "--normalize",
    "--resize",
    "--crop",
    "--calibration",
    "--quantizer",
    "--engine",
    "--device",
    "--eval-batch",
}
SEARCHING = {f"--{name.replace('_', '-')}" for name in SearchConfig.model_fields}
FLAGS = {
    ("search",): SEARCHING | SHARED | EVALUATING | {"--out", "--resume", "--time", "--quiet"},
    ("layers",): {"--model", "--weights", "--input", "--data", "--json"},
    ("simulate",): SHARED | {"--input", "--w-bits", "--a-bits", "--exclude-first-last", "--compare"},
    ("evaluate",): SHARED | EVALUATING | {"--search-from", "--report-images", "--calibration-images"},
    ("plot",): {"--kind", "--out"},
    ("hardware",): {"list", "show", "validate", "measure", "--json"},
    (): {"search", "layers", "hardware", "simulate", "evaluate", "plot"},
}


@pytest.mark.parametrize("command", FLAGS, ids=" ".join)
def test_help_names_every_flag(command: tuple[str, ...], run: Callable[..., Answer]) -> None:
    answer = run(*command, "--help")
    assert (answer.code, answer.err) == (0, "")
    words = set(answer.out.replace(",", " ").split())
    assert FLAGS[command] - words == set()


def test_help_shows_the_defaults(run: Callable[..., Answer]) -> None:
    text = " ".join(run("search", "--help").out.split())
    for default in ("digits_cnn", "bismo-edge", "0.6", "latency", "ddpg", "300", "haq", "fidelity"):
        assert f"[default: ({default})]" in text or f"[default: {default}]" in text


# Mistakes.


def test_without_a_command_the_help_is_named(run: Callable[..., Answer]) -> None:
    found = run()
    assert (found.code, found.err) == (0, "")
    assert "haq --help" in found.out


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown command": (("serach",), "No such command 'serach'. Did you mean 'search'?"),
    "unknown command of a group": (("policy", "shw"), "Did you mean 'show'?"),
    "unknown flag": (("search", "--bugdet", "0.5"), "No such option: --bugdet (Possible options: --budget"),
    "flag without value": (("search", "--seed"), "requires an argument"),
    "no number": (("search", "--episodes", "many"), "'--episodes': Input should be a valid integer"),
    "unknown device": (("search", "--hardware", "bismo-egde"), "bismo-edge"),
    "unknown model": (("search", "--model", "digit_cnn"), "did you mean digits_cnn?"),
    "unknown library": (("search", "--model", "torchvison:resnet18"), "did you mean torchvision?"),
    "unknown torchvision model": (("search", "--model", "torchvision:resnet19"), "did you mean resnet"),
    "unknown data": (("search", "--data", "mnist"), "expected digits, "),
    "nearly known data": (("search", "--data", "digit"), "did you mean digits?"),
    "nearly known folders": (("search", "--data", "imagefoldr:x"), "did you mean imagefolder?"),
    "missing data": (("search", "--data", "imagefolder:/nowhere"), "/nowhere"),
    "unknown agent": (("search", "--agent", "dqn"), "'dqn' is not one of"),
    "nearly known agent": (("search", "--agent", "gredy"), "'uniform'; did you mean greedy?"),
    "nearly known method": (("compare", "--agents", "uniform,gredy"), "did you mean greedy?"),
    "nearly known kind": (("plot", ".", "--kind", "polcy"), "did you mean policy?"),
    "unknown objective": (("search", "--objective", "speed"), "'speed' is not one of"),
    "unknown compute device": (("search", "--device", "tpu"), "'tpu' is not one of 'cpu', 'cuda'"),
    "budget 0": (("search", "--budget", "0"), "budget '0' must be a positive number"),
    "negative budget": (("search", "--budget", "-0.5"), "budget '-0.5' must be a positive number"),
    "budget of no objective": (("search", "--budget", "latncy=0.5"), "did you mean latency?"),
    "budget nan": (("search", "--budget", "nan"), "budget 'nan' must be a positive number"),
    "budget above 1": (("search", "--budget", "2"), "(0, 1]"),
    "budget of another unit": (("search", "--budget", "2kB"), "'kB' is not a unit of latency"),
    "unreachable budget": (("search", "--budget", "0.01"), "no policy meets the latency budget"),
    "unreachable absolute budget": (("search", "--budget", "1us"), "the cheapest bits cost"),
    "a drop and a budget": (("search", "--max-accuracy-drop", "0.5", "--budget", "0.5"), "give one of them"),
    "a drop below 0": (("search", "--max-accuracy-drop", "-1"), "--max-accuracy-drop -1.0: write points of accuracy"),
    "two budgets of one kind": (("search", "--budget", "0.5", "--budget", "0.6"), "two budgets for latency"),
    "no episodes": (("search", "--episodes", "0"), "--episodes 0: "),
    "bits beyond the range": (("search", "--max-bits", "9"), "--max-bits 9: "),
    "empty range": (("search", "--min-bits", "6", "--max-bits", "5"), "must be at least min_bits"),
    "ends": (("search", "--first-last-bits", "none"), "or free"),
    "pin of nothing": (("search", "--pin", "nowhere=4"), "--pin 'nowhere' names no layer; the layers are stem.0"),
    "pin of a mistyped layer": (("search", "--pin", "stem.O=4"), "'stem.O' names no layer; did you mean stem.0"),
    "pin without bits": (("search", "--pin", "stem.0"), "write NAME=BITS"),
    "pin beyond the range": (("search", "--pin", "stem.0=9"), "1 to 8 bits"),
    "input of no shape": (("search", "--input", "16"), "is not a shape"),
    "input of another shape": (("search", "--input", "3x16x16"), "--input 3x16x16 differs from the items of digits"),
    "no time": (("search", "--time", "soon"), "is not a duration"),
    "missing weights": (("search", "--weights", "nowhere.pt"), "nowhere.pt does not exist"),
    "too many images": (("search", "--search-images", "100000"), "ask for fewer"),
    "data of another shape": (("search", "--model", "torchvision:squeezenet1_1"), "items of another form"),
    "no policy": (("evaluate",), "Missing argument"),
    "missing policy": (("evaluate", "nowhere.json"), "cannot read policy nowhere.json"),
    "folder as policy": (("evaluate", "."), ". holds no policy.json"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_user_errors_are_one_line_and_leave_no_files(
    mistake: str, run: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = MISTAKES[mistake]
    assert message in run(*arguments).line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_is_refused_without_a_cuda_device(run: Callable[..., Answer], tmp_path: Path) -> None:
    for command in ((), ("--resume",)):
        line = run("search", "--device", "cuda", "--out", tmp_path / "run", *command).line
        assert line == "--device cuda: this installation of torch finds no CUDA device; use --device cpu"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("no_layers", "the model has no quantizable layer"),
        ("too_few", "the network has 3 outputs and digits has 10 classes"),
        ("grey", "does not run on an input of shape (1, 1, 16, 16)"),
        ("broken", "raised OSError: no such luck"),
        ("not_a_model", "returned a int; expected a torch.nn.Module"),
        ("absent", "cannot import"),
    ],
)
def test_unusable_models_are_one_line(
    model: str, message: str, run: Callable[..., Answer], mine: Callable[[str], str], tmp_path: Path
) -> None:
    assert message in run("search", "--model", mine(model), "--out", tmp_path / "run").line
    assert not (tmp_path / "run").exists()


def _torch_archive(path: Path) -> None:
    torch.save({"stem.0.weight": torch.zeros(3, 3)}, path)


def _safetensors(path: Path) -> None:
    save_file({"other": torch.zeros(2)}, path)


def _npz(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, other=np.zeros(2))


@pytest.mark.parametrize("write", [_torch_archive, _safetensors, _npz])
def test_mismatched_weights_are_one_line(
    write: Callable[[Path], None], run: Callable[..., Answer], tmp_path: Path
) -> None:
    write(tmp_path / "weights")
    line = run("search", "--weights", tmp_path / "weights", "--out", tmp_path / "run").line
    assert "does not fit the model" in line
    assert not (tmp_path / "run").exists()


def _file(path: Path) -> str:
    path.write_text("mine")
    return "is a file"


def _full_folder(path: Path) -> str:
    path.mkdir()
    (path / "thesis.txt").write_text("mine")
    return "is not empty; add --resume"


@pytest.mark.parametrize("occupy", [_file, _full_folder])
def test_occupied_out_is_one_line(occupy: Callable[[Path], str], run: Callable[..., Answer], tmp_path: Path) -> None:
    message = occupy(tmp_path / "run")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    assert message in run("search", "--out", tmp_path / "run").line
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"\x80\x04pickle",
    "truncated": b'{"format": "haq-policy", "version": 1, "layers": [{"name": "st',
    "a list": b"[]",
    "deep": b"[" * 200_000,
    "another format": b'{"format": "other", "version": 1}',
    "NaN": b'{"format": "haq-policy", "version": 1, "accuracy": {"a": NaN}}',
    "line breaks": b'{"format": "haq-policy", "version": 1, "model": "a\\nb", "layers": []}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_invalid_policy_files_are_one_line(kind: str, run: Callable[..., Answer], tmp_path: Path) -> None:
    (tmp_path / "policy.json").write_bytes(HOSTILE[kind])
    assert "is not a haq policy" in run("evaluate", tmp_path / "policy.json").line


def _other_bits(policy: dict[str, Any]) -> None:
    policy["layers"][0]["w_bits"] = 99


def _other_name(policy: dict[str, Any]) -> None:
    policy["layers"][2]["name"] = "elsewhere"


def _fewer_layers(policy: dict[str, Any]) -> None:
    del policy["layers"][4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_other_bits, "layers.0.w_bits: "),
        (_other_name, "bits for elsewhere, which digits_cnn does not have"),
        (_fewer_layers, "no bits for "),
    ],
)
def test_mismatched_policies_are_one_line(
    change: Callable[[dict[str, Any]], None],
    message: str,
    finished_run: Path,
    run: Callable[..., Answer],
    tmp_path: Path,
) -> None:
    policy = read(finished_run / "policy.json")
    change(policy)
    (tmp_path / "policy.json").write_text(json.dumps(policy))
    assert message in run("evaluate", tmp_path / "policy.json").line


def test_policy_for_another_model_is_one_line(
    finished_run: Path, run: Callable[..., Answer], mine: Callable[[str], str]
) -> None:
    line = run("evaluate", finished_run / "policy.json", "--model", mine("random_weights")).line
    assert "the policy (for digits_cnn, 15 layers) does not fit" in line


# What goes right.


def test_json_prints_one_document_and_quiet_prints_no_progress(
    run: Callable[..., Answer], small_flags: tuple[str, ...], tmp_path: Path
) -> None:
    answer = run("search", *small_flags, "--episodes", "1", "--out", tmp_path / "run", "--quiet", "--json")
    assert (answer.code, answer.err) == (0, "")
    assert json.loads(answer.out) == read(tmp_path / "run" / "summary.json")


def test_progress_goes_to_standard_error(
    run: Callable[..., Answer], small_flags: tuple[str, ...], tmp_path: Path
) -> None:
    answer = run("search", *small_flags, "--episodes", "2", "--out", tmp_path / "run", "--json")
    assert json.loads(answer.out)["episodes"] == 2
    lines = answer.err.splitlines()
    phases = [line.removesuffix(" s").rpartition(" ... ") for line in lines if " ... " in line]
    names = [name for name, _, seconds in phases if float(seconds) >= 0]
    assert [names[0], *names[-3:]] == ["load", "episodes", "selection", "report"]
    assert "digits_cnn (15 layers) on bismo-edge, batch 1" in lines
    episodes = [line for line in lines if line.startswith("episode ")]
    assert [line.split()[1] for line in episodes] == ["1/2", "2/2"]
    assert all("best on search images" in line for line in episodes)
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in answer.err


def test_search_for_the_least_cost_reports_its_confidence(
    run: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images = ("--search-images", "60", "--report-images", "60", "--calibration-images", "64")
    answer = run("search", *images, "--max-accuracy-drop", "5", "--episodes", "2", "--agent", "uniform")
    assert answer.code == 0
    path = Path("results") / "digits_cnn-bismo-edge-latency-drop5-uniform-s0"
    drop = read(path / "summary.json")["max_accuracy_drop"]
    assert drop["limit"] == 0.05
    assert "points lost on 48 search images, at most 5 points allowed; confidence that it is no more" in answer.out
    for images_of, split in ((12, "selection"), (60, "report")):
        assert f"{100 * drop['confidence'][split]:.1f} % by {images_of} {split} images" in answer.out
    assert "least latency, at most 5 points below the float accuracy" in answer.err


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_resuming_a_finished_run_prints_its_summary(
    flags: tuple[str, ...], finished_run: Path, small_flags: tuple[str, ...], run: Callable[..., Answer]
) -> None:
    answer = run("search", *small_flags, "--out", finished_run, "--resume", *flags)
    assert (answer.code, answer.err) == (0, "")
    if flags:
        assert json.loads(answer.out) == read(finished_run / "summary.json")
    else:
        assert "policy found" in answer.out
        assert "30 episodes" in answer.out


def test_resuming_with_other_flags_names_them(
    finished_run: Path, small_flags: tuple[str, ...], run: Callable[..., Answer]
) -> None:
    line = run("search", *small_flags, "--seed", "4", "--max-bits", "7", "--out", finished_run, "--resume").line
    assert "max_bits 8 there, 7 now; seed 3 there, 4 now" in line


def test_finished_run_is_refused_without_resume(
    finished_run: Path, small_flags: tuple[str, ...], run: Callable[..., Answer]
) -> None:
    assert "add --resume" in run("search", *small_flags, "--out", finished_run).line


def test_evaluating_a_run_needs_no_flags(finished_run: Path, run: Callable[..., Answer]) -> None:
    answer = run("evaluate", finished_run / "policy.json", "--json")
    document, summary = json.loads(answer.out), read(finished_run / "summary.json")
    assert (answer.code, answer.err) == (0, "")
    assert document["images"] == 60
    assert {key: document[key] for key in ("accuracy", "accuracy_fp32", "cost")} == {
        key: summary[key] for key in ("accuracy", "accuracy_fp32", "cost")
    }


def test_accuracy_at_chance_gives_a_prominent_warning(
    run: Callable[..., Answer], mine: Callable[[str], str], tmp_path: Path
) -> None:
    flags = ("--model", mine("random_weights"), "--episodes", "1", "--budget", "1", "--search-images", "60")
    answer = run("search", *flags, "--out", tmp_path / "run", "--quiet", "--json")
    assert answer.code == 0
    (warning,) = json.loads(answer.out)["warnings"]
    assert "no better than guessing among 10 classes" in warning
    bar, line, end = answer.err.splitlines()
    assert bar == end == "!" * 72
    assert line == f"WARNING: {warning}"


@pytest.mark.parametrize("written", [True, False])
def test_interruption_prints_the_command_to_continue(
    written: bool, run: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: SearchConfig, path: Path, **__: Any) -> SearchResult:
        if written:
            path.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr("haq.cli.search.search_configured", interrupted)
    monkeypatch.setattr(sys, "argv", ["haq", "search", "--budget", "0.5", "--pin", "two words=4", "--resume"])
    answer = run("search", "--out", tmp_path / "run")
    assert (answer.code, answer.out) == (130, "")
    expected = f"everything so far is in {tmp_path / 'run'}" if written else "nothing was written yet"
    command = f"haq search --budget 0.5 --pin 'two words=4' --out {tmp_path / 'run'} --resume"
    assert answer.err == f"stopped; {expected}. Go on with: {command}\n"


@pytest.mark.parametrize("flags", [("--time", "0.001s"), ("--time=0.001s",)])
def test_search_ended_by_its_time_limit_prints_the_command_to_continue(
    flags: tuple[str, ...], run: Callable[..., Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["search", "--budget", "0.5", "--search-images", "60", "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["haq", *command, *flags])
    answer = run(*command, *flags, "--quiet")
    assert (answer.code, answer.err) == (0, "")
    said, again = answer.out.splitlines()[-2:]
    assert said == "ended by --time after 1 of 300 episodes; go on with:"
    assert again == f"haq {' '.join(command)} --resume"


def test_internal_failure_exits_with_1(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., Answer]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("haq.cli.search.search_configured", fail)
    with pytest.raises(RuntimeError, match="a defect"):
        run("search", "--out", tmp_path / "run")


def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., Answer]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("haq.cli.search.search_configured", fail)
    answer = run("search", "--out", tmp_path / "run")
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert answer.err.startswith("haq: memory does not suffice; lower --eval-batch")


def test_unusable_files_are_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., Answer]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder").read_bytes()

    monkeypatch.setattr("haq.cli.search.search_configured", fail)
    answer = run("search", "--out", tmp_path / "run")
    assert (answer.code, answer.err) == (2, f"haq: cannot use {tmp_path / 'folder'}: Is a directory\n")


def test_system_error_without_a_file_does_not_name_standard_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., Answer]
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("haq.cli.search.search_configured", fail)
    answer = run("search", "--out", tmp_path / "run")
    assert (answer.code, answer.err) == (2, "haq: Input/output error\n")


def test_full_disk_names_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: Callable[..., Answer]) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def fail(*_: Any, **__: Any) -> None:
        write_atomically(tmp_path / "policy.json", b"{}")

    monkeypatch.setattr("os.fsync", full)
    monkeypatch.setattr("haq.cli.search.search_configured", fail)
    answer = run("search", "--out", tmp_path / "run")
    assert (answer.code, answer.err) == (2, f"haq: cannot use {tmp_path / 'policy.json'}: No space left on device\n")


INTERRUPTED_IMPORT = """
import os, signal, sys

class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)

module = sys.argv.pop(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
sys.meta_path.insert(0, Interruption())
from haq.__main__ import process
sys.exit(process())
"""


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("typer", "search"),
        ("torch", "search"),
        ("torch.nn", "search"),
        ("haq.cli.search", "search"),
        ("hardware_sim.catalog", "search"),
        ("hardware_sim.catalog", "serch"),
    ],
)
def test_interruption_of_an_import_prints_nothing(module: str, command: str) -> None:
    words = [sys.executable, "-c", INTERRUPTED_IMPORT, module, command]
    answer = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (130, "", "")


@pytest.mark.parametrize(
    ("shell", "code", "complaint"),
    [
        ("| true", 141, ""),
        ("> /dev/full", 2, "haq: cannot use standard output: No space left on device\n"),
        (">&-", 0, ""),
    ],
)
def test_closed_standard_output_is_no_internal_failure(shell: str, code: int, complaint: str) -> None:
    command = f"set -o pipefail; {sys.executable} -m haq hardware --json {shell}"
    answer = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stderr) == (code, complaint)


# A process of its own, which is killed.


def timeless(text: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in text.splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith("seconds")} for line in lines]


def journal_of(path: Path) -> list[dict[str, Any]]:
    return timeless((path / "episodes.jsonl").read_text())


KILLED = """
import os, signal, sys
from haq.__main__ import process
from haq.runs.journal import Journal

append, (sent, last) = Journal.append, map(int, sys.argv[1:3])
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background

def append_and_kill(self, record):
    append(self, record)
    if record.episode + 1 == last:
        os.kill(os.getpid(), sent)

Journal.append, sys.argv[:3] = append_and_kill, ["haq"]
sys.exit(process())
"""


def killed(flags: tuple[str, ...], path: Path, sent: signal.Signals, *, after_episodes: int) -> Answer:
    """A search in a process of its own, which gets a signal once its journal has so many lines.

    What is kept would end it at once. It sends the signal itself: from outside it may come when all is over.
    """
    flags = ("search", *flags, "--no-store", "--out", str(path), "--quiet", "--json")
    command = [sys.executable, "-c", KILLED, str(int(sent)), str(after_episodes), *flags]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    return Answer(answer.returncode, answer.stdout, answer.stderr)


def test_resumed_run_gives_the_same_result(
    finished_run: Path, small_flags: tuple[str, ...], tmp_path: Path, run: Callable[..., Answer]
) -> None:
    path = tmp_path / "run"
    answer = killed(small_flags, path, signal.SIGINT, after_episodes=3)
    assert (answer.code, answer.out) == (130, "")
    assert answer.err.startswith(f"stopped; everything so far is in {path}. Go on with: haq search ")
    assert answer.err.count("\n") == 1
    assert not (path / "summary.json").exists()
    assert read(path / "policy.json")["model"] == "digits_cnn"

    flags = (*small_flags, "--resume")
    assert killed(flags, path, signal.SIGKILL, after_episodes=6).code == -signal.SIGKILL
    assert not (path / "summary.json").exists()

    assert run("search", *flags, "--out", path, "--quiet", "--json").code == 0
    files = {file.name for file in path.iterdir()}
    assert files == {file.name for file in finished_run.iterdir()}
    journals = [timeless((folder / "episodes.jsonl").read_text()) for folder in (path, finished_run)]
    assert journals[0] == journals[1]
    for name in ("policy.json", "quantizers.safetensors", "config.json"):
        assert (path / name).read_bytes() == (finished_run / name).read_bytes()
    summaries = [{**read(folder / "summary.json"), "seconds": 0} for folder in (path, finished_run)]
    assert summaries[0] == summaries[1]


def test_termination_leaves_a_checkpoint_and_exits_with_143(small_flags: tuple[str, ...], tmp_path: Path) -> None:
    """The checkpoint is that of the last episode: without the signal there would be none for ten seconds."""
    path = tmp_path / "run"
    answer = killed(small_flags, path, signal.SIGTERM, after_episodes=3)
    assert (answer.code, answer.out) == (143, "")
    assert answer.err.startswith(f"stopped; everything so far is in {path}. Go on with: haq search ")
    assert answer.err.count("\n") == 1
    assert RunFolder(path).load_checkpoint()["episode"] == len(journal_of(path)) == 3  # type: ignore[index]


SIGNALS = """
import os, signal, sys
import haq.__main__ as entry

def command():
    try:
        os.kill(os.getpid(), int(sys.argv[1]))
        signal.pause()
    finally:
        os.kill(os.getpid(), int(sys.argv[2]))
        signal.pause()

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
entry.main = command
sys.exit(entry.process())
"""


@pytest.mark.parametrize(("first", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_at_once_and_silently(first: signal.Signals, second: signal.Signals, code: int) -> None:
    command = [sys.executable, "-c", SIGNALS, str(int(first)), str(int(second))]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert (answer.returncode, answer.stdout, answer.stderr) == (code, "", "")


def test_prints_of_libraries_do_not_reach_standard_output() -> None:
    """Compiled ones write to the descriptor, past Python's standard output."""
    code = (
        "import os, sys\n"
        "import haq.__main__ as entry\n"
        "entry.main = lambda: os.write(1, b'noise') and print('{}') or 0\n"
        "sys.exit(entry.process())\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (answer.stdout, answer.stderr) == ("{}\n", "noise")
