"""What `haq evaluate` says beside its figures."""

import json
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.experiment import evaluate as evaluating


@pytest.mark.parametrize("accuracy_is_chance", [True, False])
def test_float_network_at_chance_is_a_warning(
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    accuracy_is_chance: bool,
) -> None:
    if accuracy_is_chance:
        warning = "the float network's accuracy is no better than guessing"
        monkeypatch.setattr(evaluating, "float_warning", lambda *_: warning)
    for more in ([], ["--json"]):
        assert main(["evaluate", str(finished_run / "policy.json"), *more]) == 0
        answer = capsys.readouterr()
        assert ("WARNING: the float network's accuracy is no better" in answer.err) == accuracy_is_chance
    assert len(json.loads(answer.out)["warnings"]) == accuracy_is_chance


def test_explicit_and_automatic_rounding_use_the_same_quantizers(
    finished_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """GPTQ by its name and by `auto`: nothing is calibrated again."""
    monkeypatch.setattr("haq.quantization.quantizers.calibrate", lambda *_, **__: pytest.fail("calibrated again"))
    policy = str(finished_run / "policy.json")
    accuracies = []
    for more in ([], ["--rounding", "gptq"]):
        assert main(["evaluate", policy, *more, "--json"]) == 0
        accuracies.append(json.loads(capsys.readouterr().out)["accuracy"])
    assert accuracies[0] == accuracies[1] == json.loads((finished_run / "summary.json").read_text())["accuracy"]
