"""Pages on fine-tunings, reconstructions, sweeps and comparisons of search methods."""

import json
import re
import shutil
from pathlib import Path

import pytest

from haq.reporting.page.write import render_report

HOSTILE = '"><img src=x onerror=alert(1)>'
KINDS = ("finetune", "reconstruct", "pareto", "compare")


@pytest.mark.parametrize(
    ("kind", "heading", "answer"),
    [
        ("finetune", "Training", "Fine-tuning: "),
        ("reconstruct", "Policy", "Reconstruction: "),
        ("pareto", "Pareto sweep", "new evaluations for 1 search"),
        ("compare", "Comparison of search methods", "uniform minus each other method"),
    ],
)
def test_the_page_has_the_answer_and_a_figure(small_runs: Path, kind: str, heading: str, answer: str) -> None:
    page = render_report([small_runs / kind], devices=[])
    assert f">{heading}</h2>" in page
    assert answer in " ".join(page.split())
    assert 'role="img"' in page
    assert len(page) < 3_000_000


@pytest.mark.parametrize(
    ("kind", "captions"),
    [
        ("pareto", ["Searches", "Hypervolumes"]),
        (
            "compare",
            [
                "Scores of all methods",
                "Differences between scores",
                "Ratios of output errors",
                "Ratios of KL divergences",
            ],
        ),
    ],
)
def test_every_table_of_a_study_has_a_caption_of_its_own(small_runs: Path, kind: str, captions: list[str]) -> None:
    page = render_report([small_runs / kind], devices=[])
    assert re.findall("<caption>(.*?)</caption>", page) == captions


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_every_kind_are_escaped(small_runs: Path, kind: str, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(small_runs / kind, tmp_path / "run"))
    for path in copy.glob("*.json"):
        path.write_text(path.read_text().replace('"digits_cnn"', json.dumps(HOSTILE)))
    page = render_report([copy], devices=[])
    assert "<img" not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
