"""Pages on fine-tunings, reconstructions, sweeps and comparisons of search methods."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from haq.__main__ import main
from haq.reporting.page.write import render_report

HOSTILE = '"><img src=x onerror=alert(1)>'
KINDS = ("finetune", "reconstruct", "pareto", "compare")


@pytest.fixture(scope="session")
def folders(finished_run: Path, shared_run: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder with a small run of each kind."""

    def make(folder: Path) -> None:
        images = ("--search-images", "50", "--report-images", "40", "--calibration-images", "64")
        searches = (*images, "--engine", "torch", "--quiet", "--budgets", "0.6")
        commands = {
            "finetune": (str(finished_run), "--epochs", "1", "--quiet"),
            "reconstruct": (str(finished_run), "--steps", "1", "--quiet"),
            "pareto": (*searches, "--agent", "random", "--prior", "none", "--episodes", "2"),
            "compare": (*searches, "--agents", "uniform,random", "--at", "2", "--seeds", "2"),
        }
        folder.mkdir(exist_ok=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("haq.reporting.plots.draw_missing", lambda _: None)
            for kind, flags in commands.items():
                assert main([kind, *flags, "--out", str(folder / kind)]) == 0

    return shared_run("pages", make)


@pytest.mark.parametrize(
    ("kind", "heading", "answer"),
    [
        ("finetune", "Training", "Fine-tuning: "),
        ("reconstruct", "Policy", "Reconstruction: "),
        ("pareto", "Pareto sweep", "new evaluations for 1 search"),
        ("compare", "Comparison of search methods", "uniform minus each other method"),
    ],
)
def test_the_page_has_the_answer_and_a_figure(folders: Path, kind: str, heading: str, answer: str) -> None:
    page = render_report([folders / kind], devices=[])
    assert f">{heading}</h2>" in page
    assert answer in " ".join(page.split())
    assert 'role="img"' in page
    assert len(page) < 3_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_every_kind_are_escaped(folders: Path, kind: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folders / kind, tmp_path / "run"))
    for path in copy.glob("*.json"):
        path.write_text(path.read_text().replace('"digits_cnn"', json.dumps(HOSTILE)))
    page = render_report([copy], devices=[])
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
