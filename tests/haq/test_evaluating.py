"""What `haq evaluate` says beside its figures."""

import json
from pathlib import Path

import pytest

from haq import evaluating
from haq.__main__ import main


@pytest.mark.parametrize("accuracy_is_chance", [True, False])
def test_a_float_network_at_chance_is_a_warning_that_cannot_be_missed(
    finished_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    accuracy_is_chance: bool,
) -> None:
    if accuracy_is_chance:
        monkeypatch.setattr(evaluating, "chance_warning", lambda *_: "accuracy is no better than guessing")
    for more in ([], ["--json"]):
        assert main(["evaluate", str(finished_run / "policy.json"), *more]) == 0
        answer = capsys.readouterr()
        assert ("WARNING: the float network's accuracy is no better" in answer.err) == accuracy_is_chance
    assert len(json.loads(answer.out)["warnings"]) == accuracy_is_chance
