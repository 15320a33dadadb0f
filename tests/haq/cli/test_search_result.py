"""What a finished search prints, and what its summary says for that."""

import json
from pathlib import Path
from typing import Any

import pytest

from haq.cli.search_result import bits_lines, found_sentences, next_commands, print_result
from haq.layer_bits import LayerBits
from haq.policy import load_policy
from haq.runs.summary import Summary
from haq.searching.search import SearchResult


def result_of(run: Path, **changes: Any) -> SearchResult:
    summary = json.loads((run / "summary.json").read_text())
    return SearchResult(load_policy(run / "policy.json"), Summary.model_validate(summary | changes), run)


def printed(result: SearchResult, capsys: pytest.CaptureFixture[str]) -> list[str]:
    assert result.path is not None
    print_result(result, result.path)
    return capsys.readouterr().out.splitlines()


def test_every_row_has_an_interval_and_an_output_error(finished_run: Path) -> None:
    summary = result_of(finished_run).summary
    for each in (summary, *summary.uniform):
        assert each.interval is not None
        assert 0 <= each.interval.low <= each.accuracy <= each.interval.high <= 1
        assert each.interval.confidence == 0.95
        assert each.noise is not None
        assert each.noise > 0
    assert summary.winner is not None
    lines = (finished_run / "episodes.jsonl").read_text().splitlines()
    winner = json.loads(lines[summary.winner.episode])
    policy = load_policy(finished_run / "policy.json")
    assert (winner["w_bits"], winner["a_bits"]) == (list(policy.w_bits), list(policy.a_bits))


def test_costs_are_printed_for_every_budget(
    finished_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("haq.cli.screen.width_of", lambda _: 80)
    cost = json.loads((finished_run / "summary.json").read_text())["cost"]
    budgets = [
        {"objective": "latency", "value": 2 * cost["latency_s"], "ratio": 0.8},
        {"objective": "size", "value": 4 * cost["weight_bytes"], "ratio": 0.9},
    ]
    lines = printed(result_of(finished_run, budget=budgets), capsys)
    assert max(map(len, lines)) <= 80
    (found,) = (line for line in lines if line.startswith("policy found "))
    assert found.split()[6:10] == ["50.0", "%", "25.0", "%"]


def test_the_policy_is_compared_with_float_and_the_best_uniform_bits(finished_run: Path) -> None:
    summary = result_of(finished_run).summary
    low, high = (summary.uniform[0].model_copy(update=each) for each in ({"accuracy": 0.5}, {"accuracy": 0.75}))
    known = {"accuracy": 0.9, "accuracy_fp32": 0.95, "cost_ratio": 0.25}
    first, second = found_sentences(summary.model_copy(update={**known, "uniform": (low, high)}))
    assert first == (
        "At 25.0 % of the latency of 8 bits, the policy found has a report accuracy of 90.00 %; the float network has "
        "95.00 %."
    )
    assert second == f"The best uniform bits within the budget, {high.w_bits}/{high.a_bits}, have 75.00 %."
    _, second = found_sentences(summary.model_copy(update={**known, "uniform": ()}))
    assert second == "No uniform bits are within the budget."


def test_the_winning_episode_and_the_leader_before_it_are_named(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finalists = [{"episode": 7}, {"episode": 3}]
    found = result_of(finished_run, winner={"episode": 3}, finalists=finalists, selection_images=12, search_images=48)
    expected = "policy found: episode 3, counted from 0, best of 2 finalists on 60 search and selection images"
    assert f"{expected}; on the search images alone it was episode 7" in printed(found, capsys)
    found = result_of(finished_run, winner={"episode": 7}, finalists=finalists, selection_images=12, search_images=48)
    assert expected.replace("episode 3", "episode 7") in printed(found, capsys)


def test_commands_to_continue_with_are_printed(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(result_of(finished_run), capsys)
    assert lines[lines.index("next:") + 1 :] == [
        f"  haq {command} {finished_run}" for command in ("explain", "evaluate", "reconstruct", "export")
    ]


def test_commands_after_a_search_with_finetuning_start_from_its_policy(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantizer": "linear", "episode_finetune_steps": 2}))
    assert list(next_commands(tmp_path))[-2:] == [f"haq finetune {tmp_path / 'policy.json'}", f"haq export {tmp_path}"]


def test_codebooks_are_not_exported(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"quantizer": "kmeans"}))
    assert list(next_commands(tmp_path))[-1] == f"haq finetune {tmp_path}"


def test_summary_of_an_older_version_is_printed(finished_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads((finished_run / "summary.json").read_text())
    for key in ("winner", "noise", "interval", "interval_fp32"):
        del document[key]
    summary = Summary.model_validate(document)
    assert summary.model_dump(mode="json") == document
    found = SearchResult(load_policy(finished_run / "policy.json"), summary, finished_run)
    assert any(line.startswith("policy found ") for line in printed(found, capsys))


def layers(count: int) -> list[LayerBits]:
    return [LayerBits(name=f"features.{n}.conv", kind="conv", w_bits=n % 8 + 1, a_bits=8) for n in range(count)]


def test_bits_are_printed_with_the_names_of_layers() -> None:
    lines = list(bits_lines(layers(53), width=80))
    assert max(map(len, lines)) <= 80
    assert len(lines) == 1 + 18
    assert lines[1].split() == ["features.0.conv", "1/8", "features.18.conv", "3/8", "features.36.conv", "5/8"]


def test_bits_of_many_layers_are_printed_as_digits() -> None:
    lines = list(bits_lines(layers(130), width=80))
    assert max(map(len, lines)) <= 80
    assert lines[0] == "bits of layers 1 to 60, in the order of haq layers:"
    assert lines[7] == "  weights      1234567812"
    assert lines[8] == "  activations  8888888888"
