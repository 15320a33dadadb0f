"""The search as a function: what it writes, what it keeps to, and that an interruption changes nothing."""

import json
import shutil
import sys
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import haq
from agents.ddpg import DDPG
from agents.model_based import ModelBasedSearch
from agents.registry import METHODS
from envs.choices import IntArray
from haq.config import search_config
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.protocols import Evaluation
from haq.execution.progress import Silent
from haq.experiment.artifact import load_artifact
from haq.experiment.evaluate import evaluate_artifact
from haq.experiment.inputs import Inputs
from haq.policy import Policy, load_policy
from haq.quantization import layer_weights, quantizers, rounding
from haq.quantization.corrections import Corrector
from haq.runs.run_folder import RunFolder
from haq.runs.tensor_files import load_tensors, save_tensors
from haq.searching import session
from haq.searching.confidence import Pairs, confidence_of_drop
from haq.searching.objective import SearchObjective
from haq.searching.search import SearchResult, search_configured
from haq.tasks.classification import ClassificationTask

FILES = {
    "config.json",
    "environment.json",
    "episodes.jsonl",
    "policy.json",
    "quantizers.safetensors",
    "checkpoint.pt",
    "layers.json",
    "example.safetensors",
    "layer_errors.json",
    "summary.json",
    "policy.png",
    "learning_curve.png",
}
LINE_KEYS = {
    "episode",
    "w_bits",
    "a_bits",
    "cost",
    "accuracy",
    "divergence",
    "noise",
    "reward",
    "score",
    "actor_loss",
    "critic_loss",
    "seconds",
}
COST_KEYS = {"latency_s", "energy_j", "weight_bytes", "bops"}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haq.reporting.plots.draw_missing", lambda _: None)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def timeless(document: Any) -> Any:
    """Without what may differ between equal runs."""
    return {key: value for key, value in document.items() if not key.endswith("seconds")}


def journal(run: Path) -> list[dict[str, Any]]:
    return [timeless(json.loads(line)) for line in (run / "episodes.jsonl").read_text().splitlines()]


def assert_same_run(run: Path, other: Path) -> None:
    assert journal(run) == journal(other)
    assert timeless(read(run / "summary.json")) == timeless(read(other / "summary.json"))
    for name in ("policy.json", "quantizers.safetensors", "config.json", "layer_errors.json"):
        assert (run / name).read_bytes() == (other / name).read_bytes()


# What a finished run holds.


def test_a_run_holds_the_files_it_should(finished_run: Path) -> None:
    assert {path.name for path in finished_run.iterdir()} == FILES


def test_a_line_of_the_journal_is_flat_and_has_its_keys(finished_run: Path) -> None:
    lines = journal(finished_run)
    assert [line["episode"] for line in lines] == list(range(30))
    for line in lines:
        assert line.keys() == LINE_KEYS - {"seconds"}
        assert len(line["w_bits"]) == len(line["a_bits"]) == 15
        assert all(2 <= bits <= 8 for bits in (*line["w_bits"], *line["a_bits"]))
        assert 0 <= line["accuracy"] <= 1
        assert line["divergence"] >= 0
        # HAQ, CVPR 2019, equation 5
        summary = read(finished_run / "summary.json")
        expected = 0.1 * 100 * (line["accuracy"] - summary["search_accuracy_fp32"])
        assert line["reward"] == pytest.approx(expected)
        assert line["score"] == -line["noise"]


def test_every_policy_of_the_journal_is_within_the_budget_and_pins_both_ends(finished_run: Path) -> None:
    limit = read(finished_run / "summary.json")["budget"][0]["value"]
    for line in journal(finished_run):
        assert line["cost"] <= limit * (1 + 1e-12)
        assert {line[key][end] for key in ("w_bits", "a_bits") for end in (0, -1)} == {8}


def test_summary_has_the_documented_keys(finished_run: Path) -> None:
    summary = read(finished_run / "summary.json")
    assert summary.keys() >= {
        "metric",
        "accuracy_fp32",
        "accuracy",
        "search_accuracy",
        "selection_accuracy",
        "selection_images",
        "optimism_gap",
        "finalists",
        "cost",
        "baseline_cost",
        "budget",
        "cost_ratio",
        "episodes",
        "evaluations",
        "forward_images",
        "seconds",
        "uniform",
        "warnings",
    }
    assert summary["cost"].keys() == summary["baseline_cost"].keys() == COST_KEYS
    ((budget),) = summary["budget"]
    assert budget["objective"] == "latency"
    assert budget["ratio"] == pytest.approx(0.4)
    assert budget["value"] == pytest.approx(0.4 * summary["baseline_cost"]["latency_s"])
    assert summary["cost_ratio"] == summary["cost"]["latency_s"] / summary["baseline_cost"]["latency_s"]
    assert summary["cost_ratio"] <= 0.4 * (1 + 1e-9)
    different = {(*line["w_bits"], *line["a_bits"]) for line in journal(finished_run)}
    assert (summary["episodes"], summary["evaluations"]) == (30, len(different) + 5)
    # 48 search images and 64 for the corrections a policy, the same once for the float network; 12 and 64 for the
    # finalists and the float network once more; calibration; and the prior, 64 images forwards,
    # backwards, which counts twice, and through every layer with eight widths of weights and input.
    prior = 64 * (1 + 2 + 2 * 8)
    assert summary["forward_images"] == (48 + 64) * (len(different) + 1) + (12 + 64) * (5 + 1) + 64 + prior
    assert summary["optimism_gap"] == summary["search_accuracy"] - summary["accuracy"]
    assert (summary["search_images"], summary["selection_images"]) == (48, 12)
    assert summary["warnings"] == []
    for uniform in summary["uniform"]:
        assert uniform.keys() >= {"w_bits", "a_bits", "cost", "cost_ratio", "accuracy"}
        assert uniform["cost_ratio"] <= 0.4
        assert 0 <= uniform["accuracy"] <= 1


def distinct(run: Path) -> list[dict[str, Any]]:
    """The first line of every policy of a run."""
    lines = {(*line["w_bits"], *line["a_bits"]): line for line in reversed(journal(run))}
    return sorted(lines.values(), key=lambda line: line["episode"])


def line_of(run: Path, policy: Policy) -> dict[str, Any]:
    (found,) = (line for line in distinct(run) if (*line["w_bits"], *line["a_bits"]) == policy.w_bits + policy.a_bits)
    return found


def test_the_policy_is_one_of_the_best_five_of_the_search(finished_run: Path) -> None:
    policy, summary = load_policy(finished_run / "policy.json"), read(finished_run / "summary.json")
    ranked = sorted(distinct(finished_run), key=lambda line: (-line["score"], line["noise"], line["cost"]))
    assert [each["episode"] for each in summary["finalists"]] == [line["episode"] for line in ranked[:5]]
    winner = line_of(finished_run, policy)
    assert winner["episode"] in [each["episode"] for each in summary["finalists"]]
    assert policy.cost.latency_s == winner["cost"]
    assert policy.accuracy["search"] == winner["accuracy"] == summary["search_accuracy"]
    assert policy.accuracy["selection"] == summary["selection_accuracy"]
    assert policy.accuracy["report"] == summary["accuracy"]
    assert (policy.model, policy.hardware, policy.objective) == ("digits_cnn", "bismo-edge", "latency")


def test_the_checkpoint_holds_tensors_and_plain_values_only(finished_run: Path) -> None:
    state = torch.load(finished_run / "checkpoint.pt", weights_only=True)
    assert state["episode"] == 30


def test_resolved_settings_are_in_config(finished_run: Path) -> None:
    config, environment = read(finished_run / "config.json"), read(finished_run / "environment.json")
    assert config["resolved"]["engine"] in ("onnxruntime", "torch")  # whether they agree is the processor's matter
    assert [config["resolved"]["data"]["splits"][name]["size"] for name in ("search", "selection")] == [48, 12]
    assert config["resolved"]["budget"] == [{"objective": "latency", "value": config["resolved"]["budget"][0]["value"]}]
    assert environment["seed"] == 3
    assert {"python", "packages", "commit", "device"} <= environment.keys()


# Evaluating it again.


def test_evaluating_a_run_gives_its_numbers_and_calibrates_nothing(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is to be calibrated")

    for owner, name in ((quantizers, "calibrate"), (layer_weights, "weight_clips"), (Corrector, "find")):
        monkeypatch.setattr(owner, name, never)
    document = evaluate_artifact(load_artifact(finished_run / "policy.json", search_config()))
    summary = read(finished_run / "summary.json")
    assert document["accuracy"] == summary["accuracy"]
    assert document["accuracy_fp32"] == summary["accuracy_fp32"]
    assert document["cost"] == summary["cost"]


def test_a_policy_that_stands_alone_is_calibrated_to_the_same_result(finished_run: Path, tmp_path: Path) -> None:
    shutil.copy(finished_run / "policy.json", tmp_path)
    config = search_config(report_images=60, search_images=60, calibration_images=64)
    document = evaluate_artifact(load_artifact(tmp_path / "policy.json", config))
    assert document["accuracy"] == read(finished_run / "summary.json")["accuracy"]


def test_settings_that_quantizers_depend_on_discard_those_of_the_run(finished_run: Path) -> None:
    assert load_artifact(finished_run, search_config(report_images=50)).quantizers
    assert not load_artifact(finished_run, search_config(calibration="max")).quantizers


@pytest.mark.parametrize("content", [b"", b"garbage" * 10])
def test_damaged_quantizers_are_a_line(finished_run: Path, tmp_path: Path, content: bytes) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (run / "quantizers.safetensors").write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        evaluate_artifact(load_artifact(run / "policy.json", search_config()))


def test_quantizers_of_something_else_are_a_line(finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    save_tensors(run / "quantizers.safetensors", {"other": torch.ones(1)})
    with pytest.raises(UserError, match=r"quantizers\.safetensors does not fit the policy"):
        evaluate_artifact(load_artifact(run / "policy.json", search_config()))


# Interruptions.


def config_of(run: Path) -> Any:
    return search_config(
        **{key: value for key, value in read(run / "config.json").items() if key not in ("version", "resolved")}
    )


@pytest.fixture
def inputs(tiny_net: nn.Module, held_out_task: ClassificationTask) -> Inputs:
    return Inputs(tiny_net, held_out_task)


@pytest.fixture
def whole(inputs: Inputs, shared_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder of a search on the tiny network that nobody interrupted."""
    config = search_config(model="TinyNet", data="blobs", episodes=25, budget=("0.5",), first_last_bits=None, seed=3)
    return shared_run("whole", lambda path: search_configured(config, path, inputs=inputs))


def unfinished(whole: Path, folder: Path) -> Path:
    run = Path(shutil.copytree(whole, folder / "run"))
    for name in ("summary.json", "quantizers.safetensors", "policy.json"):
        (run / name).unlink()
    return run


def without_checkpoint(run: Path) -> None:
    (run / "checkpoint.pt").unlink()


def with_a_line_of_something_else(run: Path) -> None:
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    lines[7] = '{"episode": 7}\n'
    (run / "episodes.jsonl").write_text("".join(lines))


def with_a_missing_line(run: Path) -> None:
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (run / "episodes.jsonl").write_text("".join(lines[:7] + lines[8:]))


def with_a_torn_end(run: Path) -> None:
    content = (run / "episodes.jsonl").read_bytes()
    (run / "episodes.jsonl").write_bytes(content[:-40])


def without_a_journal(run: Path) -> None:
    (run / "episodes.jsonl").unlink()


def with_another_agents_checkpoint(run: Path) -> None:
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    agent = DDPG(10, seed=99).state_dict()
    config = state["run"].replace('"seed":3', '"seed":99')
    assert config != state["run"]
    RunFolder(run).save_checkpoint({**state, "agent": agent, "run": config})


@pytest.mark.parametrize(
    "damage",
    [
        without_checkpoint,
        with_a_torn_end,
        without_a_journal,
        with_another_agents_checkpoint,
    ],
)
def test_resume_of_a_damaged_run_gives_identical_run(
    damage: Callable[[Path], None], whole: Path, inputs: Inputs, tmp_path: Path
) -> None:
    run = unfinished(whole, tmp_path)
    damage(run)
    search_configured(config_of(whole), run, inputs=inputs, resume=True)
    assert_same_run(run, whole)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (with_a_line_of_something_else, "line 8: w_bits: field required"),
        (with_a_missing_line, "line 8: not episode 7 of this search"),
    ],
)
def test_journal_damaged_in_the_middle_is_refused_and_kept(
    damage: Callable[[Path], None], problem: str, whole: Path, inputs: Inputs, tmp_path: Path
) -> None:
    run = unfinished(whole, tmp_path)
    damage(run)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(UserError, match=rf"episodes\.jsonl is damaged \({problem}\); delete this line and all after"):
        search_configured(config_of(whole), run, inputs=inputs, resume=True)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (run / "episodes.jsonl").write_text("".join(lines[:7]))
    search_configured(config_of(whole), run, inputs=inputs, resume=True)
    assert_same_run(run, whole)


class Interruption(Silent):
    """A watcher that interrupts after so many episodes."""

    def __init__(self, after: int) -> None:
        self.after, self.ended = after, False
        self.phases: list[str] = []

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def step(self, done: int, status: str = "") -> None:  # noqa: ARG002
        if done == self.after:
            raise KeyboardInterrupt

    def end(self) -> None:
        self.ended = True


def test_resume_gives_identical_run(
    whole: Path, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted with a checkpoint after every episode, then in the middle of an episode, then not."""
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    config, run, watcher = config_of(whole), tmp_path / "run", Interruption(11)
    with pytest.raises(KeyboardInterrupt):
        search_configured(config, run, inputs=inputs, watcher=watcher)
    assert watcher.ended
    assert len(journal(run)) == 11
    assert not (run / "summary.json").exists()
    assert load_policy(run / "policy.json").model == "TinyNet"
    propose, calls = ModelBasedSearch.propose, iter(range(2))

    def interrupted(self: ModelBasedSearch) -> Any:
        proposed = propose(self)
        if next(calls) == 1:  # in the second episode, its random numbers used up
            raise KeyboardInterrupt
        return proposed

    monkeypatch.setattr(ModelBasedSearch, "propose", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search_configured(config, run, inputs=inputs, resume=True)
    assert len(journal(run)) == 12
    monkeypatch.setattr(ModelBasedSearch, "propose", propose)
    search_configured(config, run, inputs=inputs, resume=True)
    assert_same_run(run, whole)


def test_phases_are_named_as_they_begin_and_all_of_them_are_timed(
    search: Callable[..., SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(10**6))
    for module in ("search", "session"):
        monkeypatch.setattr(f"haq.searching.{module}.monotonic", lambda: float(next(clock)))
    watcher = Interruption(after=10**6)
    began_at: dict[str, int] = {}
    monkeypatch.setattr(watcher, "phase", lambda name: began_at.setdefault(name, next(clock)))
    first = next(clock)
    summary = search(out=tmp_path / "run", watcher=watcher).summary
    assert list(began_at) == [
        "load",
        "trace",
        "read data",
        "calibrate",
        "round weights (GPTQ)",
        "engine check",
        "sensitivities",
        "float accuracy",
        "selection",
        "report",
    ]
    # The clock advances by one whenever it is read: the search began before its first phase, ended after its last.
    assert summary.seconds >= began_at["report"] - first - 1


@pytest.mark.parametrize("engine", ["torch", "auto"])
def test_preparing_a_search_calibrates_and_rounds_before_its_first_policy(
    search: Callable[..., SearchResult], monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    phases, when = [""], {"calibrate": "calibrate", "_rounded": "round weights (GPTQ)"}
    watcher = Interruption(after=10**6)
    monkeypatch.setattr(watcher, "phase", phases.append)
    seen: dict[str, set[str]] = {name: set() for name in when}
    for owner, name in ((quantizers, "calibrate"), (rounding, "_rounded")):
        original = getattr(owner, name)

        def noted(*args: Any, name: str = name, original: Any = original, **settings: Any) -> Any:
            seen[name].add(phases[-1])
            return original(*args, **settings)

        monkeypatch.setattr(owner, name, noted)
    search(watcher=watcher, prior="none", engine=engine, min_bits=4, first_last_bits=None, budget=0.9)
    assert seen == {name: {phase} for name, phase in when.items()}


def test_a_budget_that_nothing_meets_is_refused_before_anything_is_calibrated(
    search: Callable[..., SearchResult],
) -> None:
    watcher = Interruption(after=10**6)
    with pytest.raises(UserError, match="no policy meets the latency budget"):
        search(watcher=watcher, budget=1e-6)
    assert watcher.phases == ["load", "trace", "read data"]


def test_a_journal_beyond_the_checkpoint_is_not_evaluated_again(
    whole: Path, inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = config_of(whole), tmp_path / "run"
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        search_configured(config, run, inputs=inputs, watcher=Interruption(10))
    shutil.copy(whole / "episodes.jsonl", run)
    seen: list[Any] = []
    original = Evaluator._run

    def counted(self: Any, bits: Any) -> Any:
        seen.append((self._split, bits))
        return original(self, bits)

    monkeypatch.setattr(Evaluator, "_run", counted)
    search_configured(config, run, inputs=inputs, resume=True)
    assert seen
    assert not [bits for split, bits in seen if split == "search"]
    assert_same_run(run, whole)


def test_resume_of_a_finished_run_changes_nothing(finished_run: Path) -> None:
    before = {path.name: path.read_bytes() for path in finished_run.iterdir()}
    result = search_configured(config_of(finished_run), finished_run, resume=True)
    assert result.summary.model_dump(mode="json") == read(finished_run / "summary.json")
    assert {path.name: path.read_bytes() for path in finished_run.iterdir()} == before


def test_other_settings_are_refused_and_named(finished_run: Path) -> None:
    config = config_of(finished_run).model_copy(update={"seed": 4, "agent": "random"})
    with pytest.raises(UserError, match='agent "ddpg" there, "random" now; seed 3 there, 4 now'):
        search_configured(config, finished_run, resume=True)


# A network and a task of one's own.


@pytest.mark.parametrize("reward", ["accuracy", "fidelity"])
def test_the_policy_is_the_finalist_that_is_best_on_all_images(
    tiny_net: nn.Module,
    held_out_task: ClassificationTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reward: str,
) -> None:
    """By accuracy or by the output error, as the reward is; 40 images of the search and 15 others."""
    selected, evaluation = {}, SearchObjective.evaluate

    def watched(objective: SearchObjective, bits: IntArray) -> Evaluation:
        found = evaluation(objective, bits)
        if objective.images == 15:
            selected[(*bits[:, 0].tolist(), *bits[:, 1].tolist())] = found
        return found

    monkeypatch.setattr(SearchObjective, "evaluate", watched)
    settings: Any = {"episodes": 12, "first_last_bits": None, "budget": 0.3, "agent": "random", "reward": reward}
    result = haq.search(tiny_net, held_out_task, out=tmp_path / "run", **settings)
    finalists = [line for line in distinct(tmp_path / "run") if (*line["w_bits"], *line["a_bits"]) in selected]
    assert len(finalists) == 5

    def loss(line: dict[str, Any]) -> float:
        again = selected[(*line["w_bits"], *line["a_bits"])]
        if reward == "accuracy":
            return -round(40 * line["accuracy"] + 15 * again.accuracy)
        return (40 * line["noise"] + 15 * again.noise) / 55

    winner = line_of(tmp_path / "run", result.policy)
    assert loss(winner) == pytest.approx(min(map(loss, finalists)), rel=1e-9)
    assert len({round(loss(line), 6) for line in finalists}) > 1


@pytest.fixture
def search(tiny_net: nn.Module, tiny_task: ClassificationTask) -> Callable[..., SearchResult]:
    """A search of three episodes in torch: onnxruntime would open a graph for every policy."""

    def run(**settings: Any) -> SearchResult:
        return haq.search(tiny_net, tiny_task, **{"budget": 0.85, "episodes": 3, "engine": "torch", **settings})

    return run


def test_objects_work_and_the_network_is_left_as_it_was(
    tiny_net: nn.Module, search: Callable[..., SearchResult]
) -> None:
    tiny_net.train()
    tiny_net.bn.eval()
    before = {name: tensor.clone() for name, tensor in tiny_net.state_dict().items()}
    flags = {name: module.training for name, module in tiny_net.named_modules()}
    pointers = [tensor.data_ptr() for tensor in tiny_net.state_dict().values()]
    result = search()
    assert [tensor.data_ptr() for tensor in tiny_net.state_dict().values()] == pointers
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_net.state_dict().items())
    assert {name: module.training for name, module in tiny_net.named_modules()} == flags
    assert all(parameter.grad is None and parameter.requires_grad for parameter in tiny_net.parameters())
    assert result.policy.model == "TinyNet"
    assert result.path is None
    assert result.summary.accuracy_fp32 == 1.0
    assert result.summary.warnings == ()


@pytest.mark.filterwarnings("ignore:the calibration inputs call layers")
def test_layers_that_the_example_does_not_call_are_among_the_warnings(
    tiny_net: nn.Module, search: Callable[..., SearchResult]
) -> None:
    once = tiny_net.mix.forward
    tiny_net.mix.forward = lambda x: once(x) if len(x) == 1 else (once(x) + once(x)) / 2
    (warning,) = search(episodes=1, agent="random").summary.warnings
    assert "mix (1 of 2 calls)" in warning


def test_equal_seeds_give_equal_runs_and_others_do_not(search: Callable[..., SearchResult], tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        search(out=tmp_path / name, seed=seed, episodes=25, agent="ddpg-paper")
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert [line["w_bits"] for line in journal(tmp_path / "c")] != [line["w_bits"] for line in journal(tmp_path / "a")]


def test_methods_receive_the_configured_reward(search: Callable[..., SearchResult], tmp_path: Path) -> None:
    for reward in ("accuracy", "fidelity"):
        search(out=tmp_path / reward, reward=reward)
    lines = journal(tmp_path / "accuracy")
    assert [line["score"] for line in lines] == [line["reward"] for line in lines]
    lines = journal(tmp_path / "fidelity")
    assert [line["score"] for line in lines] == [-line["noise"] for line in lines]
    assert all(line["accuracy"] > 0.2 for line in lines)


def test_the_size_objective_decides_weights_alone(
    search: Callable[..., SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    act, steps = DDPG.act, []
    monkeypatch.setattr(DDPG, "act", lambda self, observation: steps.append(1) or act(self, observation))
    settings = {"objective": "size", "a_bits": 6, "first_last_bits": 5, "budget": "size=0.6"}
    result = search(out=tmp_path / "run", agent="ddpg-paper", **settings)
    assert len(steps) == 3 * 3  # episodes x layers
    assert result.policy.a_bits == (6, 6, 6)
    assert (result.policy.w_bits[0], result.policy.w_bits[2]) == (5, 5)
    # 9 * 4, 4 * 8 and 32 * 4 weights
    middle = result.policy.w_bits[1]
    assert middle is not None
    expected = (36 * 5 + 32 * middle + 128 * 5) / 8
    assert result.policy.cost.weight_bytes == expected
    assert {(each.w_bits, each.a_bits) for each in result.summary.uniform} <= {(w, 6) for w in range(2, 9)}


def test_bops_and_several_budgets_all_hold(search: Callable[..., SearchResult]) -> None:
    result = search(objective="bops", budget=("0.5", "size=120B", "latency=0.9"), first_last_bits=None)
    cost, baseline = result.policy.cost, result.policy.baseline_cost
    macs = (36 * 4, 32 * 4, 128)
    bits = zip(macs, result.policy.w_bits, result.policy.a_bits, strict=True)
    assert cost.bops == sum(count * (w or 32) * (a or 32) for count, w, a in bits)
    assert cost.bops <= 0.5 * (baseline.bops or 0)
    assert (cost.weight_bytes or 0) <= 120
    assert (cost.latency_s or 0) <= 0.9 * (baseline.latency_s or 0)
    assert [each.objective for each in result.summary.budget] == ["bops", "size", "latency"]


def test_pins_hold_and_ends_can_be_free(search: Callable[..., SearchResult], tmp_path: Path) -> None:
    search(out=tmp_path / "run", pin={"mix": 3}, first_last_bits=None, budget=0.5, episodes=12)
    lines = journal(tmp_path / "run")
    assert {(line["w_bits"][1], line["a_bits"][1]) for line in lines} == {(3, 3)}
    assert len({(line["w_bits"][0], line["a_bits"][0]) for line in lines}) > 1
    search(out=tmp_path / "other", pin={"conv": 2, "mix": 4}, episodes=2, budget=0.9)
    for line in journal(tmp_path / "other"):
        assert list(zip(line["w_bits"], line["a_bits"], strict=True)) == [(2, 2), (4, 4), (8, 8)]


def test_widths_stay_in_their_range(search: Callable[..., SearchResult], tmp_path: Path) -> None:
    search(out=tmp_path / "run", min_bits=3, max_bits=5, first_last_bits=None, budget=0.5, agent="random")
    bits = {bits for line in journal(tmp_path / "run") for bits in (*line["w_bits"], *line["a_bits"])}
    assert bits <= {3, 4, 5}


def test_search_with_the_papers_budget_rule_and_rich_observation(search: Callable[..., SearchResult]) -> None:
    result = search(budget_rule="haq", observation="rich")
    assert result.summary.cost_ratio <= 0.85


@pytest.mark.parametrize("agent", ["ddpg", "evolution"])
def test_time_limit_ends_the_search_with_the_best_so_far(
    search: Callable[..., SearchResult], tmp_path: Path, agent: str
) -> None:
    result = search(out=tmp_path / "run", time_limit_s=1e-9, episodes=1000, agent=agent)
    assert result.summary.episodes == len(journal(tmp_path / "run")) == 1
    assert RunFolder(tmp_path / "run").is_finished


# Every method, with and without a selection split, for the most reward and for the least cost.

AGENTS = tuple(METHODS)
AIMS: dict[str, dict[str, Any]] = {"budget": {"budget": ("0.6",)}, "drop": {"max_accuracy_drop": 10}}


@pytest.mark.parametrize(
    "case", [*((agent, "budget") for agent in AGENTS), ("ddpg", "drop"), ("evolution", "drop")], ids="-".join
)
def test_resume_gives_identical_run_with_every_method(
    tiny_net: nn.Module,
    held_out_task: ClassificationTask,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[str, str],
) -> None:
    """Interrupted after the seventh episode, with the checkpoint of the fourth."""
    settings: Any = {
        "agent": case[0],
        "episodes": 12,
        "first_last_bits": None,
        "model": "TinyNet",
        "engine": "torch",
    }
    config = search_config(**settings, **AIMS[case[1]], data="blobs")
    inputs, run = Inputs(tiny_net, held_out_task), tmp_path / "run"
    search_configured(config, tmp_path / "whole", inputs=inputs)
    for episode, seconds in ((4, 0.0), (7, inf)):
        monkeypatch.setattr(session, "CHECKPOINT_SECONDS", seconds)
        with pytest.raises(KeyboardInterrupt):
            search_configured(config, run, inputs=inputs, resume=True, watcher=Interruption(episode))
    assert torch.load(run / "checkpoint.pt", weights_only=True)["episode"] == 4
    search_configured(config, run, inputs=inputs, resume=True)
    assert_same_run(run, tmp_path / "whole")
    assert read(run / "summary.json")["selection_images"] == 15


@pytest.mark.parametrize(
    "case", [*((agent, "budget") for agent in AGENTS), ("ddpg", "drop"), ("random", "drop")], ids="-".join
)
def test_a_finished_run_continued_with_more_episodes_is_one_that_had_them_at_once(
    tiny_net: nn.Module, held_out_task: ClassificationTask, tmp_path: Path, case: tuple[str, str]
) -> None:
    settings: Any = {"agent": case[0], "first_last_bits": None, "model": "TinyNet", "data": "blobs", "engine": "torch"}
    settings |= AIMS[case[1]]
    inputs, run = Inputs(tiny_net, held_out_task), tmp_path / "run"
    search_configured(search_config(**settings, episodes=14), tmp_path / "whole", inputs=inputs)
    for episodes in (5, 14):
        search_configured(search_config(**settings, episodes=episodes), run, inputs=inputs, resume=True)
        assert read(run / "summary.json")["episodes"] == read(run / "config.json")["episodes"] == episodes
    assert_same_run(run, tmp_path / "whole")
    assert read(run / "summary.json")["ended_by"] == "episodes"


def test_a_continued_run_that_is_killed_is_unfinished_and_goes_on(
    search: Callable[..., SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    run = tmp_path / "run"
    search(out=tmp_path / "whole", episodes=9)
    search(out=run, episodes=3)
    with pytest.raises(KeyboardInterrupt):
        search(out=run, episodes=9, resume=True, watcher=Interruption(5))
    assert not {"summary.json", "quantizers.safetensors"} & {path.name for path in run.iterdir()}
    with pytest.raises(UserError, match="has 5 episodes already; --episodes 4 would be fewer"):
        search(out=run, episodes=4, resume=True)
    search(out=run, episodes=9, resume=True)
    assert_same_run(run, tmp_path / "whole")


def test_a_run_that_its_time_ended_goes_on_without_a_limit_or_with_a_longer_one(
    search: Callable[..., SearchResult], tmp_path: Path
) -> None:
    search(out=tmp_path / "whole", episodes=6)
    run = tmp_path / "run"
    ended = search(out=run, episodes=6, time_limit_s=1e-9).summary
    assert (ended.ended_by, ended.episodes) == ("time", 1)
    files = {path.name: path.read_bytes() for path in run.iterdir()}
    assert search(out=run, episodes=6, time_limit_s=1e-9, resume=True).summary == ended
    assert {path.name: path.read_bytes() for path in run.iterdir()} == files
    longer = search(out=run, episodes=6, time_limit_s=ended.seconds + 1e-6, resume=True).summary
    assert (longer.ended_by, longer.episodes) == ("time", 1)
    assert longer.seconds > ended.seconds
    search(out=run, episodes=6, resume=True)
    assert_same_run(run, tmp_path / "whole")


@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_killed_run_keeps_all_episodes_of_its_journal_beyond_the_time_limit(
    search: Callable[..., SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, checkpoint: bool
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    search(out=run, episodes=2)
    kept = (run / "checkpoint.pt").read_bytes()
    search(out=run, episodes=5, resume=True)
    before = journal(run)
    for name in ("summary.json", "checkpoint.pt"):
        (run / name).unlink()
    if checkpoint:
        (run / "checkpoint.pt").write_bytes(kept)
    summary = search(out=run, episodes=9, time_limit_s=1e-9, resume=True).summary
    assert (summary.ended_by, summary.episodes) == ("time", 5)
    assert journal(run) == before


def test_a_run_with_more_episodes_and_another_setting_is_refused_and_kept(
    search: Callable[..., SearchResult], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    search(out=run, episodes=3)
    files = {path.name: path.read_bytes() for path in run.iterdir()}
    for settings, message in (
        ({"episodes": 5, "seed": 1}, "started with other settings: seed 0 there, 1 now$"),
        ({"episodes": 2}, "has 3 episodes already; --episodes 2 would be fewer"),
    ):
        with pytest.raises(UserError, match=message):
            search(out=run, resume=True, **settings)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == files


def test_a_search_ends_where_no_policy_costs_less(search: Callable[..., SearchResult]) -> None:
    summary = search(max_accuracy_drop=90, budget=None, episodes=60, first_last_bits=None).summary
    assert summary.ended_by == "least cost"
    assert summary.episodes < 60


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"pin": {"mix": 4}}, "the bits of every layer are fixed; --first-last-bits free would search"),
        ({"min_bits": 8, "first_last_bits": None, "agent": "random", "budget": 1}, "the bits of every layer are fixed"),
        ({"budget": 0.71, "agent": "evolution"}, "a single policy is within the limits"),
        ({"max_accuracy_drop": 50, "budget": None, "pin": {"mix": 4}}, "the bits of every layer are fixed"),
    ],
)
def test_search_with_a_single_policy_tries_it_once_and_notes_it(
    search: Callable[..., SearchResult], tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    summary = search(out=tmp_path / "run", **{"episodes": 50, **settings}).summary
    assert (summary.ended_by, summary.episodes, summary.evaluations) == ("one policy", 1, 1)
    (note,) = (note for note in summary.notes if "nothing to choose" in note)
    assert reason in note
    assert {path.name for path in (tmp_path / "run").iterdir()} >= FILES - {"policy.png", "learning_curve.png"}


@pytest.mark.parametrize("agent", AGENTS)
def test_every_method_keeps_the_budget_and_names_its_best(
    search: Callable[..., SearchResult], tmp_path: Path, agent: str
) -> None:
    result = search(out=tmp_path / "run", agent=agent, budget="0.5", episodes=8, first_last_bits=None)
    lines = journal(tmp_path / "run")
    assert len(lines) == 8
    assert all(line["cost"] <= result.summary.budget[0].value * (1 + 1e-12) for line in lines)
    # Without a selection split the most reward wins.
    best = max(lines, key=lambda line: (line["score"], -line["noise"], -line["cost"]))
    assert [[*result.policy.w_bits], [*result.policy.a_bits]] == [best["w_bits"], best["a_bits"]]
    assert (result.summary.selection_accuracy, result.summary.selection_images) == (None, 0)
    assert result.summary.finalists == ()


def test_without_optuna_tpe_is_refused_in_a_line(
    search: Callable[..., SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"optuna.*haq\[tpe\]"):
        search(out=tmp_path / "run", agent="tpe")
    assert not (tmp_path / "run").exists()


def test_min_cost_policy_is_within_the_drop_and_the_first_policy_costs_most(
    search: Callable[..., SearchResult], tmp_path: Path
) -> None:
    result = search(out=tmp_path / "run", max_accuracy_drop=10, budget=None, episodes=30, first_last_bits=None)
    lines, summary = journal(tmp_path / "run"), result.summary
    met = [line for line in lines if line["accuracy"] >= summary.search_accuracy_fp32 - 0.1 - 1e-9]
    assert lines[0]["cost"] == max(line["cost"] for line in lines)
    assert result.policy.cost.latency_s == min(line["cost"] for line in met) < lines[0]["cost"]
    ((budget),) = summary.budget
    assert budget.value == pytest.approx(result.policy.cost.latency_s, rel=1e-12)
    assert budget.ratio == summary.cost_ratio
    drop = summary.max_accuracy_drop
    assert drop is not None
    assert (drop.limit, drop.selection) == (0.1, None)
    assert drop.search == summary.search_accuracy_fp32 - summary.search_accuracy <= 0.1 + 1e-9
    pairs = drop.paired["report"]
    assert drop.report == pytest.approx((pairs.lost - pairs.won) / 40)
    assert drop.confidence == {"report": confidence_of_drop(Pairs(pairs.lost, pairs.won, pairs.images), 0.1)}


def test_a_drop_with_a_confidence_is_shown_by_the_images_and_survives_an_interruption(
    tiny_net: nn.Module, held_out_task: ClassificationTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: Any = {"max_accuracy_drop": 12, "confidence": 0.9, "first_last_bits": None, "min_bits": 1, "episodes": 30}
    settings["engine"] = "torch"
    summary = haq.search(tiny_net, held_out_task, out=tmp_path / "whole", **settings).summary
    drop, lines = summary.max_accuracy_drop, journal(tmp_path / "whole")
    assert drop is not None
    assert summary.winner is not None
    assert summary.search_accuracy_fp32 is not None
    winner = lines[summary.winner.episode]
    for each in lines:
        is_within = each["accuracy"] >= summary.search_accuracy_fp32 - 0.12 - 1e-9
        assert (each["lost"] is not None) == (each["won"] is not None) == is_within
        if is_within:
            missing = 40 * (summary.search_accuracy_fp32 - each["accuracy"])
            assert each["lost"] - each["won"] == pytest.approx(missing)
    pairs = drop.paired["selection"]
    both = Pairs(winner["lost"] + pairs.lost, winner["won"] + pairs.won, 55)
    assert (drop.confidence_required, drop.confidence_reached) == (0.9, confidence_of_drop(both, 0.12))
    assert drop.confidence_reached >= 0.9
    assert confidence_of_drop(Pairs(winner["lost"], winner["won"], 40), 0.12) >= 0.9
    monkeypatch.setattr(session, "CHECKPOINT_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        haq.search(tiny_net, held_out_task, out=tmp_path / "run", watcher=Interruption(11), **settings)
    haq.search(tiny_net, held_out_task, out=tmp_path / "run", resume=True, **settings)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"max_accuracy_drop": 1},
            "40 search images cannot show at 95 % confidence that a drop is at most 1 points",
        ),
        ({"max_accuracy_drop": 0}, "--confidence cannot be reached for a drop of 0"),
        ({"max_accuracy_drop": None}, "--confidence needs --max-accuracy-drop"),
        ({"max_accuracy_drop": 1, "confidence": 95.0}, "--confidence 95.0: input should be less than 1"),
    ],
)
def test_a_confidence_that_cannot_be_reached_is_refused_before_anything_is_calibrated(
    search: Callable[..., SearchResult], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    watcher = Interruption(after=1)
    with pytest.raises(UserError, match=message):
        search(out=tmp_path / "run", watcher=watcher, **{"budget": None, "confidence": 0.95, **settings})
    assert "calibrate" not in watcher.phases
    assert not (tmp_path / "run").exists()


def test_drop_that_no_policy_keeps_is_refused_with_the_nearest_miss(
    tiny_net: nn.Module, tiny_task: ClassificationTask, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no policy lost at most 0 points of accuracy in 1 episode;"):
        haq.search(tiny_net, tiny_task, out=tmp_path / "run", max_accuracy_drop=0.0, max_bits=1, min_bits=1, episodes=4)
    assert load_policy(tmp_path / "run" / "nearest_miss.json").model == "TinyNet"


def test_a_drop_and_a_budget_are_refused() -> None:
    with pytest.raises(UserError, match="--budget limits the cost and --max-accuracy-drop looks for the least"):
        search_config(max_accuracy_drop=1, budget=("0.5",))
    config = search_config(max_accuracy_drop=1)
    assert search_config(**config.model_dump()) == config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pin": {"nowhere": 4}}, "--pin 'nowhere' names no layer; the layers are conv, mix, classifier"),
        ({"budget": 1e-6}, "no policy meets the latency budget of .* the cheapest bits cost"),
        ({"budget": "1kB"}, "'kB' is not a unit of latency"),
        ({"input": (3, 6, 6)}, "--input 3x6x6 differs from the items of blobs, which are 1x6x6"),
        ({"objective": "energy", "budget": "energy=1ns"}, "'ns' is not a unit of energy"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_written(
    search: Callable[..., SearchResult], settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        search(out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_network_that_answers_nan_is_refused_before_anything_is_written(
    tiny_net: nn.Module, search: Callable[..., SearchResult], tmp_path: Path
) -> None:
    with torch.no_grad():
        tiny_net.classifier.bias.fill_(torch.nan)
    with pytest.raises(UserError, match="NaN or infinity"):
        search(out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_cuda_is_refused_where_torch_has_none(search: Callable[..., SearchResult], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="finds no CUDA device; use --device cpu"):
        search(out=tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_is_used_and_the_network_stays_where_it_was(
    tiny_net: nn.Module, search: Callable[..., SearchResult]
) -> None:
    result = search(device="cuda")
    assert result.summary.accuracy_fp32 == 1.0
    assert all(parameter.device.type == "cpu" for parameter in tiny_net.parameters())


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.flat, self.first, self.tied, self.last = nn.Flatten(), nn.Linear(36, 8), nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.last(torch.relu(self.tied(torch.relu(self.tied(self.first(self.flat(x)))))))
        return scores


def test_tied_layers_have_equal_bits_and_can_be_evaluated_from_their_files(
    tiny_task: ClassificationTask, tmp_path: Path
) -> None:
    haq.search(Twice(), tiny_task, out=tmp_path / "run", episodes=3, budget=0.7)
    for line in journal(tmp_path / "run"):
        assert line["w_bits"][1] == line["w_bits"][2]
        assert line["a_bits"][1] == line["a_bits"][2]
    assert load_tensors(tmp_path / "run" / "quantizers.safetensors")
