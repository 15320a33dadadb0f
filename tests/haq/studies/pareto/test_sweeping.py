"""A whole sweep on few images, its plan, and the mistakes that `haq pareto` reports."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hardware_sim
from haq.__main__ import main
from haq.config import search_config
from haq.errors import UserError
from haq.evaluation.engines.finetuned import EpisodeEngine
from haq.evaluation.fingerprint import probe_policies
from haq.execution.progress import SILENT
from haq.experiment.inputs import Inputs
from haq.quantization.training.network import start_network
from haq.runs.run_folder import RunFolder
from haq.studies.pareto import chain
from haq.studies.pareto.plan import Sweep, plan

IMAGES = ("--search-images", "50", "--report-images", "40", "--calibration-images", "64")
FLAGS = (*IMAGES, "--agent", "evolution", "--episodes", "8", "--more-episodes", "2", "--quiet")
WHAT = ("--devices", "bismo-edge,bismo-cloud", "--budgets", "0.3,0.5,0.01")


@pytest.fixture(scope="module", autouse=True)
def _no_pictures_of_runs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("haq.reporting.plots.draw_missing", lambda _: None)
        yield


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep. Copy it before you change it."""
    path = tmp_path_factory.mktemp("sweep") / "out"
    assert main(["pareto", *FLAGS, *WHAT, "--out", str(path)]) == 0
    return path


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "pareto.json").read_text())
    return found


def test_largest_budgets_come_first_and_later_searches_take_few_evaluations(swept: Path) -> None:
    records = document(swept)["records"]
    assert [(each["hardware"], each["budget"]) for each in records] == [
        ("bismo-edge", "0.5"),
        ("bismo-edge", "0.3"),
        ("bismo-cloud", "0.5"),
        ("bismo-cloud", "0.3"),
    ]
    assert records[0]["new_evaluations"] == 8
    assert all(each["new_evaluations"] <= 2 for each in records[1:])
    assert all(each["cost_ratio"] <= each["budget_ratio"] * (1 + 1e-9) for each in records)


def test_later_searches_start_with_policies_of_earlier_ones(swept: Path) -> None:
    def policies(run: str) -> list[Any]:
        lines = map(json.loads, (swept / "runs" / run / "episodes.jsonl").read_text().splitlines())
        return [(line["w_bits"], line["a_bits"]) for line in lines]

    edge = policies("bismo-edge-latency-0.5-s0") + policies("bismo-edge-latency-0.3-s0")
    cloud = policies("bismo-cloud-latency-0.5-s0")
    assert len(cloud) > 2
    assert all(each in edge for each in cloud[:-2])


def test_resuming_a_search_with_other_observations_is_refused(swept: Path) -> None:
    run = swept / "runs" / "bismo-edge-latency-0.3-s0"
    config = json.loads((run / "config.json").read_text())
    assert config["told"].startswith("8 policies, ")
    with pytest.raises(UserError, match=r'other settings: told "8 policies, [0-9a-f]{16}" there, null now'):
        RunFolder.reopen(run, {key: value for key, value in config.items() if key != "told"})


def test_resuming_with_other_settings_is_refused_and_changes_nothing(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(swept, tmp_path / "out")
    before = (tmp_path / "out" / "pareto.json").read_bytes()
    assert main(["pareto", *FLAGS, "--budgets", "0.5", "--resume", "--out", str(tmp_path / "out")]) == 2
    assert "was started with other settings: pareto.budgets" in capsys.readouterr().err
    assert main(["search", "--resume", "--out", str(tmp_path / "out")]) == 2
    assert "pareto" in capsys.readouterr().err
    assert (tmp_path / "out" / "pareto.json").read_bytes() == before


def test_budgets_that_cannot_be_met_are_listed(swept: Path) -> None:
    refused = document(swept)["refused"]
    assert [(each["hardware"], each["budget"]) for each in refused] == [("bismo-edge", "0.01"), ("bismo-cloud", "0.01")]
    assert "cheapest" in refused[0]["reason"]


def test_every_device_and_cost_has_fronts(swept: Path) -> None:
    fronts = document(swept)["fronts"]
    assert {(each["hardware"], each["axis"], each["is_uniform"]) for each in fronts} == {
        (device, axis, is_uniform)
        for device in ("bismo-edge", "bismo-cloud")
        for axis in ("latency", "energy", "size")
        for is_uniform in (False, True)
    }
    for each in fronts:
        searched_for = each["axis"] == "latency"
        assert (each["hypervolume"] is not None) == searched_for
        assert not searched_for or 0 < each["hypervolume"] < 1


def test_tables_and_figure_are_written(swept: Path) -> None:
    text = (swept / "pareto.md").read_text()
    assert "| bismo-cloud | 0.3 |" in text
    assert "Not searched: bismo-edge, latency at 0.01" in text
    assert len((swept / "pareto.csv").read_text().splitlines()) == 5
    assert (swept / "pareto.png").read_bytes().startswith(b"\x89PNG")


def test_a_resumed_sweep_gives_the_same_document(
    swept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(swept, out)
    shutil.rmtree(out / "runs" / "bismo-cloud-latency-0.3-s0")
    (out / "pareto.json").unlink()
    assert main(["pareto", *FLAGS, *WHAT, "--out", str(out), "--resume", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == document(swept)


def test_a_finished_sweep_prepares_nothing(
    swept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(chain, "prepare_network", lambda _: pytest.fail("prepared"))
    assert main(["pareto", *FLAGS, *WHAT, "--out", str(swept), "--resume"]) == 0
    assert "times its first search" in capsys.readouterr().out


def test_plot_draws_the_same_figure_from_the_folder(swept: Path, tmp_path: Path) -> None:
    assert main(["plot", str(swept), "--kind", "pareto", "--out", str(tmp_path / "again.png")]) == 0
    assert (tmp_path / "again.png").read_bytes() == (swept / "pareto.png").read_bytes()


def test_further_searches_take_at_most_a_third_of_the_first_by_default() -> None:
    question = Sweep(
        config=search_config(episodes=300),
        devices=("a", "b", "c"),
        objectives=("latency",),
        budgets=("0.2", "0.3", "0.4", "0.5", "0.6"),
    )
    assert 300 + 14 * question.further_episodes <= 1.3 * 300


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (("--budgets", "0.5,0.5"), "pareto needs budgets, each once; got 0.5, 0.5"),
        (("--budgets", ""), "pareto needs budgets, each once; got none"),
        (("--budgets", "0.5x"), "'x' is not a unit of latency"),
        (("--budgets", "0.001"), "none of these budgets can be met"),
        (("--rounding", "gptq", "--quantizer", "kmeans"), "--rounding gptq rounds integers, not codebooks"),
        (("--devices", "bismo"), "bismo"),
        (("--also", "latency=0.5"), "two budgets for latency: give one"),
        (("--objectives", "speed"), "--objectives: 'speed' is no objective; choose from latency"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], complaint: str
) -> None:
    assert main(["pareto", *IMAGES, *flags, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert complaint in error
    assert not (tmp_path / "out").exists()


def test_two_devices_of_one_name_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(hardware_sim.__file__).parent / "devices" / "bismo-edge.toml").read_text()
    paths = [tmp_path / "first.toml", tmp_path / "second.toml"]
    for path in paths:
        path.write_text(text.replace("bismo-edge", "mine"))
    devices = ",".join(map(str, paths))
    assert main(["pareto", *FLAGS, "--devices", devices, "--budgets", "0.5", "--out", str(tmp_path / "out")]) == 2
    assert "are both called mine" in capsys.readouterr().err


def test_seeds_of_a_process_share_a_network_unless_policies_are_fine_tuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Inputs] = []

    def prepare(*_: object) -> Inputs:
        made.append(Inputs())
        return made[-1]

    monkeypatch.setattr(chain, "_prepare_inputs", prepare)
    for steps, networks in ((0, 1), (4, 2)):
        made.clear()
        chain.forget_prepared()
        for seed in (0, 1):
            config = search_config(seed=seed, episode_finetune_steps=steps)
            assert chain._shared_inputs(config, tmp_path, SILENT) is made[-1]
        assert len(made) == networks
    chain.forget_prepared()


def test_plotting_a_folder_without_a_sweep_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plot", str(tmp_path), "--kind", "pareto"]) == 2
    assert "holds no pareto.json" in capsys.readouterr().err


def test_max_accuracy_drop_is_refused() -> None:
    settings: dict[str, Any] = {"devices": ("bismo-edge",), "objectives": ("latency",), "budgets": ("0.5",)}
    with pytest.raises(UserError, match="takes --budgets"):
        Sweep(config=search_config(max_accuracy_drop=1), **settings)


def test_budgets_in_bits_and_ratios_are_ordered_by_cost() -> None:
    question = Sweep(
        config=search_config(), devices=("bismo-edge",), objectives=("size",), budgets=("3bits", "0.9", "6bits")
    )
    searches, _ = plan(question)

    assert [search.config.budget[0] for search in searches] == ["0.9", "6bits", "3bits"]


def test_also_limits_every_search() -> None:
    question = Sweep(
        config=search_config(),
        devices=("bismo-edge",),
        objectives=("latency", "energy"),
        budgets=("0.9", "0.5"),
        also=("size=0.4",),
    )
    searches, refused = plan(question)
    assert [search.choice.constraint_names for search in searches] == [("latency", "size")] * 2 + [
        ("energy", "size")
    ] * 2
    assert not refused


def test_the_shape_of_an_input_comes_from_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shape of a user's network needs no flag, even if the data are the default."""
    (tmp_path / "own_net_of_a_sweep.py").write_text(
        "from torch import nn\n"
        "def build(): return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 10))\n"
    )
    monkeypatch.chdir(tmp_path)
    question = Sweep(
        config=search_config(model="own_net_of_a_sweep:build"),
        devices=("bismo-edge",),
        objectives=("latency",),
        budgets=("1",),
    )
    searches, refused = plan(question)
    assert (len(searches), refused) == (1, ())


def test_fine_tuned_policies_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No probe is trained for a key, and no policy that an earlier search of the seed evaluated."""
    trained: list[Any] = []

    def tune(engine: EpisodeEngine, bits: Any) -> Any:
        trained.append(bits)
        return start_network(engine.model, engine._initializer, bits).eval()

    monkeypatch.setattr(EpisodeEngine, "_tune", tune)
    flags = ("--agent", "uniform", "--episodes", "3", "--more-episodes", "1", "--episode-finetune-steps", "1")
    images = ("--search-images", "20", "--report-images", "20", "--calibration-images", "20")
    asked = ("--budgets", "0.9,0.8", "--quiet", "--out", str(tmp_path / "out"))
    assert main(["pareto", *images, *flags, *asked]) == 0
    assert trained
    assert not set(trained) & set(probe_policies(len(trained[0][0])))
    assert max(Counter(trained).values()) <= 4  # on each of three splits, and for its weights
