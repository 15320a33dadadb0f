"""What single layers lose, as arrays, as a folder and on the command line."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from haq.__main__ import main
from haq.api import search
from haq.config import SearchConfig, search_config
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.execution.progress import Silent
from haq.experiment.preparation import prepare_network
from haq.experiment.prior.layer_losses import prior_of_pairs
from haq.experiment.prior.measured import Cell, Sensitivities, cell_policy, cells, network_sensitivities
from haq.policy import PolicyBits
from haq.quantization.corrections import Corrections
from haq.reporting.plots import draw_missing, plot_run
from haq.reporting.plots.sensitivity import SensitivityTable, plot_sensitivity
from haq.sensitivity.measure import Extent, measure_sensitivities
from haq.tasks.classification import ClassificationTask

FLAGS = ("--search-images", "60", "--report-images", "60", "--calibration-images", "64", "--min-bits", "2")
EXTENT = Extent(images=24)
CONFIG = {
    "search_images": 60,
    "report_images": 60,
    "calibration_images": 64,
    "corrections": "none",
    "min_bits": 3,
    "max_bits": 4,
}


class Scripted:
    """An engine whose outputs change only where the second layer's input has two bits."""

    name = "scripted"
    images_per_policy = 5

    def runner(self, bits: PolicyBits | None) -> Callable[[Tensor], Tensor]:
        changed = bits == ((None, None), (None, 2))
        row = torch.tensor([0.4, 0.2, 0.2, 0.2] if changed else [0.7, 0.1, 0.1, 0.1]).log()
        return lambda inputs: row.expand(len(inputs), -1)

    def corrections(self, bits: PolicyBits) -> Corrections:
        raise NotImplementedError

    def store(self, bits: PolicyBits, corrections: Corrections) -> None:
        raise NotImplementedError


@pytest.mark.parametrize("batch_size", [1, 7, 24, 256])
def test_results_of_cells_by_hand(tiny_task: ClassificationTask, batch_size: int) -> None:
    measuring = Sensitivities(Scripted(), tiny_task, images=24, batch_size=batch_size)
    labels = tiny_task.splits["calibration"].take(torch.arange(24))[1]
    zeros = labels.eq(0).double().mean().item()
    assert measuring.floats.accuracy == pytest.approx(zeros)
    assert measuring.floats.divergence == 0
    assert measuring.floats.loss == pytest.approx(-zeros * np.log(0.7) - (1 - zeros) * np.log(0.1), rel=1e-5)
    changed = measuring.measure(Cell(1, "input", 2), 2)
    assert changed.loss == pytest.approx(-zeros * np.log(0.4) - (1 - zeros) * np.log(0.2), rel=1e-5)
    assert changed.divergence == pytest.approx(0.7 * 0.5596157879 - 0.3 * 0.6931471806, rel=1e-5)
    # One output of four moves by log(2 * 7 / 4) against the others, which are log(7) below it in float.
    assert changed.noise == pytest.approx((np.log(3.5) / np.log(7)) ** 2, rel=1e-5)
    assert measuring.measure(Cell(1, "weights", 2), 2) == measuring.floats
    assert measuring.forward_images(2) == 24 + 2 * (24 + 5)


def test_measured_prior_is_the_error_of_each_width_alone(tiny_task: ClassificationTask, tiny_net: nn.Module) -> None:
    config = search_config(engine="torch", rounding="nearest", prior="measured", episodes=2, agent="ilp")
    network = prepare_network(config, model=tiny_net, task=tiny_task)
    layers = len(network.priced.layers)
    found = network_sensitivities(network)
    assert found.losses.shape == (layers, 2, 8)
    assert found.forward_images == 40 + layers * 16 * (40 + network.engine.images_per_policy)
    evaluator = Evaluator(network.engine, tiny_task, "calibration")
    expected = evaluator.evaluate(*cell_policy(Cell(1, "weights", 2), layers)).noise
    assert found.losses[1, 0, 1] == pytest.approx(expected)
    assert (found.losses[:, 1, 1] > found.losses[:, 1, 5]).all()


def test_search_uses_a_measured_prior(tiny_task: ClassificationTask, tiny_net: nn.Module) -> None:
    settings: dict[str, Any] = {"engine": "torch", "agent": "ilp", "episodes": 2, "first_last_bits": None}
    images = [
        search(tiny_net, tiny_task, prior=prior, **settings).summary.forward_images for prior in ("none", "measured")
    ]
    network = prepare_network(search_config(engine="torch"), model=tiny_net, task=tiny_task)
    assert images[1] - images[0] == network_sensitivities(network).forward_images


def test_cells_are_different_policies() -> None:
    wanted = cells(3, [2, 5, 8])
    policies = {cell_policy(cell, 3) for cell in wanted}
    assert len(policies) == len(wanted) == 3 * 2 * 3
    assert all(sum(bits is not None for part in policy for bits in part) == 1 for policy in policies)


def test_losses_of_tied_layers_are_added() -> None:
    losses = np.zeros((3, 2, 8))
    losses[:, 0, 3], losses[:, 1, 1] = (1.0, 2.0, 4.0), (8.0, 16.0, 32.0)
    found = prior_of_pairs(losses, [0, 1, 0])
    assert found.shape == (2, 8, 8)
    assert found[:, 3, 1].tolist() == [1 + 4 + 8 + 32, 2 + 16]
    assert found[:, 3, 0].tolist() == [5, 2]


@pytest.fixture(scope="module")
def config() -> SearchConfig:
    return search_config(**CONFIG)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, config: SearchConfig) -> Path:
    path = tmp_path_factory.mktemp("sensitivity") / "out"
    measure_sensitivities(config, path, extent=EXTENT)
    draw_missing(path)
    return path


def test_all_calibration_images_are_taken_where_there_are_fewer(tmp_path: Path, config: SearchConfig) -> None:
    few = config.model_copy(update={"calibration_images": 6, "min_bits": 8})
    assert measure_sensitivities(few, tmp_path / "out", extent=Extent()).images == 6


def test_folder_has_all_files_and_numbers(folder: Path) -> None:
    names = {"config.json", "environment.json", "cells.jsonl", "sensitivity.csv", "sensitivity.json", "sensitivity.png"}
    assert {path.name for path in folder.iterdir()} == names
    document = json.loads((folder / "sensitivity.json").read_text())
    layers = len(document["layers"])
    assert len(document["cells"]) == layers * 2 * 2
    assert document["images"] == 24
    assert document["forward_images"] == 24 + layers * 4 * 24
    assert document["fisher_forward_images"] == 64 * 19
    assert all(cell["divergence"] > 0 and cell["fisher"] > 0 for cell in document["cells"])
    lines = (folder / "sensitivity.csv").read_text().splitlines()
    assert lines[0] == "layer,part,bits,loss,accuracy,divergence,noise,fisher"
    first = document["cells"][0]
    assert lines[1].split(",") == [str(value) for value in first.values()]


def test_three_bits_lose_more_than_four_measured_and_estimated(folder: Path) -> None:
    found = json.loads((folder / "sensitivity.json").read_text())["cells"]
    for key in ("divergence", "fisher"):
        pairs = zip(found[::2], found[1::2], strict=True)
        assert sum(three[key] > four[key] for three, four in pairs) >= 0.9 * len(found) / 2
    measured, expected = (np.array([cell[key] for cell in found]) for key in ("divergence", "fisher"))
    assert np.corrcoef(np.log(measured), np.log(expected))[0, 1] > 0.8


class Counter(Silent):
    """Keeps how many measurements are done."""

    done = 0

    def step(self, done: int, status: str = "") -> None:  # noqa: ARG002
        self.done = done


def test_resuming_after_an_interrupt_gives_identical_files(folder: Path, config: SearchConfig, tmp_path: Path) -> None:
    before = (folder / "cells.jsonl").read_bytes().splitlines(keepends=True)
    killed = tmp_path / "killed"
    killed.mkdir()
    (killed / "config.json").write_bytes((folder / "config.json").read_bytes())
    (killed / "cells.jsonl").write_bytes(b"".join(before[:-9]) + before[-9][:20])
    counter = Counter()
    measure_sensitivities(config, killed, extent=EXTENT, resume=True, watcher=counter)
    assert counter.done == len(before)
    for name in ("cells.jsonl", "sensitivity.csv", "sensitivity.json"):
        assert (killed / name).read_bytes() == (folder / name).read_bytes(), name


def test_resuming_a_finished_measurement_runs_nothing(
    folder: Path, config: SearchConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("haq.sensitivity.measure.prepare_network")
    document = measure_sensitivities(config, folder, extent=EXTENT, resume=True)
    assert document.to_json() == json.loads((folder / "sensitivity.json").read_text())


def test_folders_of_other_settings_or_runs_are_refused(folder: Path, config: SearchConfig, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not empty; add --resume"):
        measure_sensitivities(config, folder, extent=EXTENT)
    with pytest.raises(UserError, match="other settings: images 24 there, 25 now"):
        measure_sensitivities(config, folder, extent=Extent(images=25), resume=True)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "cells.jsonl").write_text('{"layer": 0}\n')
    with pytest.raises(UserError, match=r"cells\.jsonl is damaged \(line 1: .*\); delete it"):
        measure_sensitivities(config, tmp_path, extent=EXTENT, resume=True)


def test_invalid_settings_leave_no_folder(tmp_path: Path) -> None:
    assert main(["sensitivity", *FLAGS, "--images", "65", "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_fisher_only_measures_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["sensitivity", *FLAGS, "--fisher-only", "--out", str(out), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads((out / "sensitivity.json").read_text())
    assert (document["images"], document["forward_images"]) == (0, 0)
    assert {cell["bits"] for cell in document["cells"]} == set(range(2, 9))
    assert all(cell["divergence"] is None and cell["loss"] is None for cell in document["cells"])


def test_command_prints_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--search-images", "60", "--report-images", "60", "--calibration-images", "64", "--min-bits", "3")
    again = ("--max-bits", "4", "--corrections", "none", "--images", "24", "--out", str(folder), "--resume")
    assert main(["sensitivity", *flags, *again]) == 0
    printed = capsys.readouterr().out
    assert all(header in printed for header in ("weights", "input", "3 bits", "4 bits"))
    assert "classifier" in printed


def test_plot_draws_the_same_figure(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "again.png"
    assert main(["plot", str(folder), "--kind", "sensitivity", "--out", str(target)]) == 0
    assert capsys.readouterr().out.strip() == str(target)
    assert target.read_bytes() == (folder / "sensitivity.png").read_bytes()


def test_plotting_a_damaged_document_names_file_and_key(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "sensitivity.json").read_text())
    document["cells"][0]["fisher"] = "much"
    (tmp_path / "sensitivity.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"sensitivity.json is damaged: cells.0.fisher"):
        plot_run(tmp_path, kinds=("sensitivity",))


def test_figure_has_one_cell_per_layer_and_width(folder: Path) -> None:
    document = json.loads((folder / "sensitivity.json").read_text())
    figure = plot_sensitivity(SensitivityTable.model_validate(document))
    upper, lower, bar = figure.axes
    assert [axes.get_ylabel() for axes in (upper, lower)] == ["bits of weights", "bits of input"]
    assert [label.get_text() for label in lower.get_xticklabels()] == [each["name"] for each in document["layers"]]
    assert bar.get_ylabel() == "divergence, nats"
    shown = np.asarray(upper.collections[0].get_array())
    assert shown.shape == (2, len(document["layers"]))
    weights = [cell["divergence"] for cell in document["cells"] if cell["part"] == "weights"]
    assert shown.T.ravel() == pytest.approx(np.maximum(weights, max(c["divergence"] for c in document["cells"]) / 1e4))


def without_a_cell(document: dict[str, Any]) -> None:
    del document["cells"][3]


def with_a_cell_twice(document: dict[str, Any]) -> None:
    document["cells"][3] = document["cells"][2]


DAMAGES: list[Callable[[dict[str, Any]], object]] = [
    without_a_cell,
    with_a_cell_twice,
    lambda document: document.update(cells=5),
    lambda document: document.update(layers=[]),
    lambda document: document.update(layers=["conv"]),
    lambda document: document.update(forward_images="many"),
    lambda document: document["cells"][0].update(divergence=None),
    lambda document: document["cells"][0].update(divergence="much"),
    lambda document: document["cells"][0].update(bits="3"),
    lambda document: document["cells"][0].pop("fisher"),
    lambda document: document["cells"][0].update(loss=10**400),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_resuming_with_a_damaged_document_is_an_error(
    damage: Callable[[dict[str, Any]], object], folder: Path, config: SearchConfig, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(folder, tmp_path / "run"))
    document = json.loads((run / "sensitivity.json").read_text())
    damage(document)
    (run / "sensitivity.json").write_text(json.dumps(document))
    with pytest.raises(UserError, match=r"sensitivity\.json is damaged \(.*\); delete it to measure again$"):
        measure_sensitivities(config, run, extent=EXTENT, resume=True)


@pytest.mark.parametrize("line", ["5", '{"layer": [], "part": "input", "bits": 3}', "[" * 100_000, "\udcff"])
def test_resuming_a_damaged_journal_is_an_error(line: str, folder: Path, config: SearchConfig, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    (tmp_path / "cells.jsonl").write_text(f"{line}\n", errors="surrogateescape")
    with pytest.raises(UserError, match=r"cells\.jsonl is damaged \(line 1: .*\); delete it"):
        measure_sensitivities(config, tmp_path, extent=EXTENT, resume=True)
