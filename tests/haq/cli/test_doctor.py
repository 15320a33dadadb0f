"""`haq doctor`: what it lists, and that a part that does not fit is an error."""

import json
from importlib import metadata
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.cli import installation


def test_lists_packages_extras_machine_and_tools(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert {check["part"] for check in checks} == {"packages", "extras", "machine", "tools"}
    by_name = {check["name"]: check for check in checks}
    assert by_name["torch"]["text"] == metadata.version("torch")
    assert by_name["gpu"]["state"] in ("ok", "missing")


def test_missing_extras_and_tools_are_no_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        if name == "qonnx":
            raise metadata.PackageNotFoundError
        return metadata.version(name)

    monkeypatch.setattr(installation, "version", version)
    monkeypatch.setattr(installation.shutil, "which", lambda _: None)
    assert main(["doctor", "--json"]) == 0
    by_name = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert by_name["qonnx"]["state"] == by_name["qemu-system-arm"]["state"] == "missing"
    assert "pip install -e '.[export]'" in by_name["qonnx"]["text"]
    assert "apt-get install qemu-system-arm" in by_name["qemu-system-arm"]["text"]


def test_an_old_package_is_a_problem(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    old = {"numpy": "1.26.4"}
    monkeypatch.setattr(installation, "version", lambda name: old.get(name) or metadata.version(name))
    assert main(["doctor"]) == 2
    assert capsys.readouterr().err == "haq: numpy: 1.26.4, needs >=2.1; pip install -e .\n"


def test_a_cache_that_cannot_be_made_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("HAQ_CACHE", str(tmp_path / "file" / "cache"))
    assert main(["doctor"]) == 2
    assert "set HAQ_CACHE to a folder" in capsys.readouterr().err
