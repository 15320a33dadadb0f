"""Explanations of a run: steps and free bits by hand, and a real run from its folder and the command line."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from envs.choices import BudgetError, Choices
from haq.__main__ import main
from haq.errors import UserError
from haq.policy import load_policy
from haq.reporting.explanation.case import _trials
from haq.reporting.explanation.explain import explain, plateaus, steps
from haq.reporting.explanation.findings import Plateau, Step
from haq.reporting.explanation.robustness import cost_noise
from haq.runs.episode import Episode


def a_choice(cost: list[float], limit: float) -> Choices:
    """Two layers, weights of 2 to 5 bits at these costs, activations of 8."""
    allowed = np.zeros((2, 8, 8), dtype=np.bool_)
    allowed[:, 1:5, 7] = True
    costs = np.zeros((1, 2, 8, 8))
    costs[0, :, 1:5, 7] = cost
    return Choices(("one", "two"), (0, 1), allowed, costs, np.array([limit]), ("latency",))


def test_bits_that_round_up_are_free() -> None:
    choice = a_choice([1.0, 2.0, 2.0, 3.0], 9.0)
    found = list(plateaus(choice, np.array([(3, 8), (2, 8)])))
    assert found == [Plateau("one", (3, 8), most=(4, 8), least=(3, 8))]
    found = list(plateaus(choice, np.array([(4, 8), (5, 8)])))
    assert found == [Plateau("one", (4, 8), most=(4, 8), least=(3, 8))]


def test_steps_have_cost_and_gain() -> None:
    losses = np.zeros((2, 8, 8))
    losses[:, 1:5, 7] = [[8.0, 4.0, 1.0, 0.5], [0.8, 0.4, 0.1, 0.05]]
    found = list(steps(a_choice([1.0, 2.0, 3.0, 4.0], 4.0), np.array([(3, 8), (3, 8)]), losses))
    assert len(found) == 6
    assert Step("one", (3, 4), (8, 8), cost=1.0, gain=3.0, fits=False) in found
    assert Step("two", (3, 2), (8, 8), cost=-1.0, gain=-0.4, fits=True) in found


def test_cost_errors_of_all_layers_together_and_of_each_alone() -> None:
    layers = np.ones(100)
    safe, tight, broke = (cost_noise("latency", layers, limit) for limit in (111.0, 100.0, 89.0))
    assert (safe.together, safe.apart, broke.together, broke.apart) == (1.0, 1.0, 0.0, 0.0)
    assert tight.together == pytest.approx(0.5, abs=0.05)
    assert tight.apart == pytest.approx(0.5, abs=0.05)
    # With each layer for itself, errors cancel: the sum of 100 has a deviation of 0.6.
    assert cost_noise("latency", layers, 103.0).apart == 1.0
    assert safe.headroom == pytest.approx(1.11)


def test_first_evaluation_of_a_policy_counts_and_failed_ones_are_left_out() -> None:
    def episode(number: int, w_bits: int, noise: float, failure: str | None = None) -> Episode:
        return Episode(
            episode=number, w_bits=[w_bits, 8], a_bits=[8, 8], cost=1.0, accuracy=0.5, divergence=noise, noise=noise,
            reward=-1.0, score=-noise, actor_loss=None, critic_loss=None, seconds=0.1, failure=failure,
        )  # fmt: skip

    lines = [episode(0, 4, 0.1), episode(1, 2, 0.4), episode(2, 4, 0.2), episode(3, 3, 0.0, failure="NaN")]
    assert _trials(iter(lines), a_choice([1.0, 2.0, 3.0, 4.0], 9.0)) == {
        bytes([4, 8, 8, 8]): (-0.1, 0.1, 0.5),
        bytes([2, 8, 8, 8]): (-0.4, 0.4, 0.5),
    }


def test_explanation_of_a_run_has_consistent_numbers(finished_run: Path) -> None:
    summary = json.loads((finished_run / "summary.json").read_text())
    found = explain(finished_run)
    lines = [json.loads(line) for line in (finished_run / "episodes.jsonl").read_text().splitlines()]
    policy = load_policy(finished_run / "policy.json")
    (winner, *_) = [
        line for line in lines if (tuple(line["w_bits"]), tuple(line["a_bits"])) == (policy.w_bits, policy.a_bits)
    ]
    assert (found.belief.unit, found.belief.measured) == ("reward", pytest.approx(-winner["noise"]))
    assert found.belief.low <= found.belief.predicted <= found.belief.high
    assert 0 <= found.distance.integer <= found.distance.bound + 1e-6
    assert 0 <= found.distance.low <= found.distance.high
    assert found.price.cost == pytest.approx(summary["cost"]["latency_s"])
    assert found.price.percent >= 0
    assert found.price.upgrade is not None
    assert found.price.upgrade.cost > 0
    assert found.cost_noise[0].headroom == pytest.approx(found.price.budget / found.price.cost)
    assert found.calibration is None
    assert explain(finished_run) == found


def test_exchange_rate_of_output_error_to_accuracy_is_fitted_near_the_winner(
    finished_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    fp32 = load_policy(run / "policy.json").accuracy["fp32_search"]
    lines = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    least = min(line["noise"] for line in lines)
    for line in lines:
        # Three points for a hundredth; far away, where noise is no small change, something else.
        line["accuracy"] = fp32 - 3 * line["noise"] if line["noise"] < 4 * least else 0.1
    (run / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = explain(run).exchange
    assert found is not None
    assert found.points == pytest.approx(300)
    assert found.policies <= len(lines)
    assert main(["explain", str(run)]) == 0
    assert "a reward of -0.01 went with -3.00 points of search accuracy" in capsys.readouterr().out


def test_robust_explanation_calibrates_on_other_images(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(finished_run), "--robust", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["calibration"]
    assert (found["images"], found["shared"]) == (64, 0)
    assert found["is_close"] == (abs(found["search_accuracy"] - found["search_accuracy_before"]) <= 0.005)


def test_costs_of_the_ends_are_those_of_their_bits(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = explain(finished_run)
    policy = load_policy(finished_run / "policy.json")
    first, last = found.ends
    assert (first.layer, last.layer) == (policy.layers[0].name, policy.layers[-1].name)
    for end, bits in ((first, policy.layers[0]), (last, policy.layers[-1])):
        assert end.bits == (bits.w_bits, bits.a_bits)
        assert end.share == pytest.approx(end.cost / found.price.cost)
        assert 0 < end.least < end.cost
    assert main(["explain", str(finished_run)]) == 0
    assert f"{last.layer}, at an end of the network, takes" in " ".join(capsys.readouterr().out.split())


def test_text_names_all_findings(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(finished_run)]) == 0
    text = capsys.readouterr().out
    for part in ("predicts", "One percent more budget", "allows", "free on this device", "off by up to 10 %"):
        assert part in text


def test_folder_without_finished_run_exits_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "holds no finished run: config.json is missing" in error


def test_run_with_too_few_policies_is_refused(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    lines = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (run / "episodes.jsonl").write_text("".join(lines[:2]))
    summary = json.loads((run / "summary.json").read_text())
    (run / "summary.json").write_text(json.dumps(summary | {"episodes": 2}))
    with pytest.raises(UserError, match="at least 4"):
        explain(run)


def test_a_damaged_run_is_named(finished_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    first, *rest = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    (run / "episodes.jsonl").write_text("".join([first, "torn\n", *rest[1:]]))
    with pytest.raises(UserError, match=r"episodes.jsonl is damaged \(line 2: not a JSON object\)"):
        explain(run)
    (run / "episodes.jsonl").write_text(first)
    with pytest.raises(UserError, match=r"episodes.jsonl has 1 whole lines and summary.json \d+ episodes"):
        explain(run)
    for wrong in ({"score": None}, {"w_bits": [8]}, {"a_bits": [{}] * 15}):
        (run / "episodes.jsonl").write_text("".join([json.dumps(json.loads(first) | wrong) + "\n", *rest]))
        with pytest.raises(UserError, match=r"episodes.jsonl.* \(?line 1: (score|no bits of|a_bits)"):
            explain(run)
    (run / "summary.json").write_text("{}")
    with pytest.raises(UserError, match=r"holds no search, or its summary.json is damaged"):
        explain(run)


def changed(finished_run: Path, folder: Path, name: str, **changes: Any) -> Path:
    """A copy of a run with other values in a file; "left out" takes one away."""
    run = Path(shutil.copytree(finished_run, folder / "run"))
    document = json.loads((run / name).read_text()) | changes
    (run / name).write_text(json.dumps({key: value for key, value in document.items() if value != "left out"}))
    return run


A_BUDGET = {"objective": "latency", "value": 1e-9, "ratio": 0.4}
DAMAGES: list[tuple[str, dict[str, Any], str]] = [
    ("summary.json", {"objective": "speed"}, r"summary\.json is damaged \(objective: input should be 'latency'"),
    ("summary.json", {"budget": []}, r"summary\.json is damaged \(budget: "),
    ("summary.json", {"budget": [A_BUDGET | {"value": "1"}]}, r"summary\.json is damaged \(budget\.0\.value: "),
    ("summary.json", {"budget": [A_BUDGET]}, "no policy meets the latency budget"),
    ("summary.json", {"metric": "left out"}, r"summary\.json is damaged \(metric: field required\)"),
    ("config.json", {"budget": None, "max_accuracy_drop": 0.1}, r"config\.json is damaged \(budget: "),
    ("config.json", {"budget": 5, "max_accuracy_drop": 0.1}, r"config\.json is damaged \(budget: "),
    ("config.json", {"model": "left out"}, r"config\.json is damaged \(model: field required\)"),
    ("config.json", {"agent": "dqn"}, r"config\.json is damaged: --agent 'dqn'"),
    ("config.json", {"max_bits": 2}, r"policy\.json has bits that .*config\.json does not allow"),
    ("config.json", {"pin": {"classifier": 2}}, r"policy\.json has bits that .*config\.json does not allow"),
]


@pytest.mark.parametrize(("name", "changes", "message"), DAMAGES)
def test_damaged_files_are_one_line(
    name: str, changes: dict[str, Any], message: str, finished_run: Path, tmp_path: Path
) -> None:
    with pytest.raises((UserError, BudgetError), match=message):
        explain(changed(finished_run, tmp_path, name, **changes))


def test_empty_settings_are_refused(finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    (run / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"config\.json is damaged \(model: field required\); explain takes"):
        explain(run)


@pytest.mark.parametrize("number", ["1e308", "9" * 400, "-1e90", "0.5"])
def test_score_that_contradicts_its_line_is_refused(number: str, finished_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    first, *rest = (run / "episodes.jsonl").read_text().splitlines(keepends=True)
    score = f'"score": {json.loads(first)["score"]}'
    assert score in first
    (run / "episodes.jsonl").write_text("".join([first.replace(score, f'"score": {number}'), *rest]))
    with pytest.raises(UserError, match=r"episodes\.jsonl.* \(?line 1: (score|no bits of 15 layers|not a JSON object)"):
        explain(run)
