import json
import re
import shutil
import warnings
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import haq
from haq.__main__ import main
from haq.errors import UserError
from haq.layer_bits import LayerBits
from haq.policy import Policy, load_policy
from haq.reporting.page.commands import repeat_text
from haq.reporting.page.comparison import pareto_figure
from haq.reporting.page.runs import labels, read_run
from haq.reporting.page.write import render_report, write_report

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;$x$'
VOID = {"meta", "input", "path", "use", "br"}


class Elements(HTMLParser):
    """All elements of a page with their attributes, and the text below every heading."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[str] = []
        self.sections: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag == "section":
            self.sections.append("")
        self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("h1", "h2", "h3"):
            self.headings[-1] += data
        elif self.sections and "style" not in self._open and "script" not in self._open:
            self.sections[-1] += data.strip()

    def of(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.found if name == tag)


@pytest.fixture(scope="module")
def run(finished_run: Path) -> Path:
    return finished_run


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return render_report([run], devices=["gpu-t4"])


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def edited(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def small(run: Path, folder: Path) -> Path:
    """A run of which nothing is known but its settings, policy and results."""
    folder.mkdir()
    for name in ("config.json", "policy.json", "summary.json"):
        shutil.copy(run / name, folder / name)
    return folder


def test_the_page_answers_first(page: str, run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text())
    text = re.sub(r"<[^>]+>|\s+", " ", page[page.index("<main>") :])
    verdict = text[: text.index("What to do next")]
    assert f"{100 * summary['cost_ratio']:.1f} % of the latency of 8 bits" in verdict
    assert f"{100 * summary['accuracy']:.2f} %" in verdict
    assert f"float: {100 * summary['accuracy_fp32']:.2f} %" in verdict
    assert "of the latency budget" in verdict
    assert "best uniform bits within the budget" in verdict


def test_the_page_has_all_parts_of_a_search_in_this_order(page: str) -> None:
    assert Elements(page).headings == [
        "digits_cnn on bismo-edge",
        "What to do next",
        "Policy",
        "Why this policy",
        "Error of every layer",
        "Roofline before and after",
        "Sensitivity",
        "Search",
        "Cost and score",
        "Other devices",
        "Provenance",
        "Commands",
    ]


def test_the_page_refers_to_nothing_outside(page: str) -> None:
    elements = Elements(page)
    for _, attributes in elements.found:
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "#").startswith("#")
    assert not list(elements.of("link"))
    assert "@import" not in page
    assert "http://" not in page.replace("http-equiv", "")
    assert "https://" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))
    (policy,) = (each["content"] for each in elements.of("meta") if "http-equiv" in each)
    assert policy is not None
    assert policy.startswith("default-src 'none';")


def test_ids_are_unique_and_references_lead_somewhere(page: str) -> None:
    elements = Elements(page)
    ids = [attributes["id"] for _, attributes in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = re.findall(r'(?:href="|url\()#([\w-]+)', page)
    assert set(targets) <= set(ids)


def test_figures_have_alternatives_and_every_layer_a_bar_a_row_and_a_reason(page: str, run: Path) -> None:
    elements = Elements(page)
    figures = list(elements.of("svg"))
    assert len(figures) == 6
    assert all(each["role"] == "img" and each["aria-label"] for each in figures)
    layers = [layer.name for layer in load_policy(run / "policy.json").layers]
    bars = [attributes["data-layer"] for attributes in elements.of("g") if attributes.get("class") == "bar"]
    assert sorted(bars, key=lambda text: int(text or "")) == [str(place) for place in range(len(layers)) for _ in "wa"]
    reasons = re.findall(r'<td class="why">(.*?)</td>', page, re.DOTALL)
    texts = [re.sub(r"<span.*?</span>", "", reason).strip() for reason in reasons]
    assert len(texts) == len(layers)
    assert all(text.endswith(".") and len(text.split()) > 5 for text in texts)
    assert texts[0].startswith("Pinned to 8 bits as an end of the network")


def test_equal_runs_give_equal_pages(page: str, copy: Path) -> None:
    summary = json.loads((copy / "summary.json").read_text())
    edited(copy / "summary.json", seconds=summary["seconds"] + 5)
    assert render_report([copy], devices=["gpu-t4"]) == page


def test_what_a_run_does_not_know_is_left_out(run: Path, tmp_path: Path) -> None:
    elements = Elements(render_report([small(run, tmp_path / "small")]))
    headings = ["digits_cnn on bismo-edge", "What to do next", "Policy", "Cost and score", "Provenance", "Commands"]
    assert elements.headings == headings
    assert all(elements.sections)
    columns = [attributes for attributes in elements.of("th") if "data-sort" in attributes]
    assert len(columns) == 4  # number, name and bits


def test_texts_of_files_are_escaped(run: Path, tmp_path: Path) -> None:
    folder = small(run, tmp_path / "small")
    policy = load_policy(folder / "policy.json")
    layers = tuple(LayerBits(**{**each.model_dump(), "name": f"{each.name}{HOSTILE}"}) for each in policy.layers)
    policy = Policy(**{**policy.model_dump(by_alias=True), "layers": layers, "model": HOSTILE})
    policy.save(folder / "policy.json")
    edited(folder / "config.json", model=f"mine:{HOSTILE}", weights=HOSTILE, resolved={"engine": HOSTILE})
    edited(folder / "summary.json", warnings=[HOSTILE], notes=[HOSTILE])
    (folder / "environment.json").write_text(json.dumps({"platform": HOSTILE, "packages": {HOSTILE: HOSTILE}}))
    other = Path(shutil.copytree(folder, tmp_path / "<b>other"))
    elements = Elements(render_report([folder, other]))
    assert len(list(elements.of("script"))) == 1
    assert not [tag for tag, _ in elements.found if tag in ("img", "b")]
    assert not [name for _, attributes in elements.found for name in attributes if name.startswith("on")]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("summary.json", None, "summary.json is missing or damaged"),
        ("summary.json", "{", "summary.json is missing or damaged"),
        ("summary.json", '{"accuracy": 1}', "summary.json is damaged"),
        ("config.json", None, "config.json is missing"),
        ("config.json", "{", "config.json is missing or damaged"),
        ("policy.json", None, "policy.json is missing"),
        ("policy.json", "{}", "policy.json"),
        ("layers.json", "{}", "layers.json is damaged"),
        ("layer_errors.json", "{}", "layer_errors.json is damaged"),
        ("episodes.jsonl", "{}\n", "episodes.jsonl is damaged"),
        ("exports.json", '{"exports": 1}', "exports.json is damaged"),
        ("verification.json", "{}", "verification.json is damaged"),
    ],
)
def test_missing_and_damaged_files_are_one_line(
    copy: Path, name: str, content: str | None, complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_text(content)
    assert main(["report", str(copy)]) == 2
    error = capsys.readouterr().err
    assert complaint in error
    assert len(error.strip().splitlines()) == 1
    assert not (copy / "report.html").exists()


def test_several_runs_are_compared(run: Path, tmp_path: Path) -> None:
    elements = Elements(render_report([small(run, tmp_path / "a"), small(run, tmp_path / "b")]))
    assert elements.headings[:3] == ["Comparison of 2 runs", "Runs", "Policies side by side"]
    assert elements.headings.count("Policy") == 2
    assert "Cost and score" not in elements.headings
    names = {attributes.get("href") for attributes in elements.of("a")}
    assert names == {"#run1", "#run2"}


def test_the_file_is_beside_the_run_or_where_it_is_wanted(run: Path, tmp_path: Path) -> None:
    copy, other = small(run, tmp_path / "copy"), small(run, tmp_path / "other")
    assert haq.report(copy) == copy / "report.html"
    assert (copy / "report.html").read_text(encoding="utf-8") == render_report([copy])
    for runs, out, complaint in (
        ([copy, other], None, "--out FILE.html"),
        ([copy, copy], tmp_path / "page.html", "given twice"),
        ([copy], tmp_path, "is a folder"),
        ([copy], tmp_path / "page.pdf", "ends in .html"),
        ([copy], tmp_path / "missing" / "page.html", "cannot write"),
        ([tmp_path], tmp_path / "page.html", "holds no finished run"),
        ([tmp_path / "none"], None, "is not the folder of a run"),
        ([], None, "at least one run"),
    ):
        with pytest.raises(UserError, match=re.escape(complaint)):
            write_report(runs, out)
    assert not (tmp_path / "page.html").exists()


def test_labels_are_as_short_as_they_can_be() -> None:
    assert labels([Path("/a/one"), Path("/a/two")]) == ["one", "two"]
    assert labels([Path("/a/x/run"), Path("/b/x/run")]) == ["a/x/run", "b/x/run"]


def test_the_command_repeats_the_run_with_the_settings_that_differ_from_the_defaults(run: Path) -> None:
    assert repeat_text(read_run(run, label="run")) == (
        "haq search --search-images 60 --report-images 60 --calibration-images 64 --budget 0.4 --episodes 30 --seed 3 "
        "--out RUN"
    )


def test_settings_become_flags_as_the_command_line_reads_them(copy: Path) -> None:
    changed = {"first_last_bits": None, "pin": {"head.0": 8}, "input": [1, 16, 16], "budget": ["0.5", "size=9 kB"]}
    edited(copy / "config.json", **changed)
    flags = repeat_text(read_run(copy, label="run"))
    for flag in ("--first-last-bits free", "--pin head.0=8", "--input 1x16x16", "--budget 0.5 --budget 'size=9 kB'"):
        assert f" {flag} " in flags


def test_scores_that_are_all_zero_are_drawn_without_a_warning(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    summary = json.loads((copy / "summary.json").read_text())
    for scores in (summary, *summary["uniform"]):
        scores |= {key: 0.0 for key in ("accuracy", "accuracy_fp32") if key in scores}
    (copy / "summary.json").write_text(json.dumps(summary))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pareto_figure([read_run(copy, label="run")], "front") is not None
