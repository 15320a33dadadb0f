"""`haq hardware targets`, as a user meets it."""

import json
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.cli.search import _default_out as default_folder
from haq.config import search_config
from hardware_sim.target_catalog import TARGETS, load_target, target_names

Output = pytest.CaptureFixture[str]


def test_targets_are_listed(capsys: Output) -> None:
    assert main(["hardware", "targets"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in target_names())
    assert main(["hardware", "targets", "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == list(target_names())


def test_a_target_is_shown_with_rules_and_sources(capsys: Output) -> None:
    assert main(["hardware", "targets", "imx500"]) == 0
    text = capsys.readouterr().out
    assert "weights of 2, 4 or 8 bits with activations of 8 bits" in text
    assert all(source in text for source in load_target("imx500").sources.values())
    assert main(["hardware", "targets", "imx500", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == load_target("imx500").model_dump(mode="json")


def test_a_file_is_checked(capsys: Output, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((TARGETS / "finn.toml").read_text().replace('"finn"', '"mine"').replace("zero_points", "zeros", 1))
    assert main(["hardware", "targets", str(path)]) == 2
    assert "unknown key 'zeros'" in capsys.readouterr().err


def test_the_default_folder_of_a_search_names_the_target() -> None:
    plain, deployed = (default_folder(search_config(deploy=deploy)) for deploy in (None, "tflm"))
    assert plain.name == "digits_cnn-bismo-edge-latency-0.6-ddpg-s0"
    assert deployed.name == "digits_cnn-bismo-edge-tflm-latency-0.6-ddpg-s0"
