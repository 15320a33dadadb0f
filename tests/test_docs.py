"""README and `docs/` name only commands, flags, devices, files and links that exist, and name all of them."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from haq.cli.app import app
from hardware_sim.catalog import device_names
from hardware_sim.target_catalog import target_names

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
COMMON = {"--help"}
OTHER_TOOLS = {"--nproc-per-node", "--nnodes", "--head", "--port", "--address"}
"""Flags of other programs in the examples."""


@cache
def commands() -> dict[str, set[str]]:
    """The flags of every command by its words, such as `hardware show`; groups have no flags of their own."""
    found: dict[str, set[str]] = {}

    def visit(command: Any, words: tuple[str, ...]) -> None:
        flags = {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
        found[" ".join(words)] = {flag for flag in flags if flag.startswith("--")} | COMMON
        for name, inner in getattr(command, "commands", {}).items():
            visit(inner, (*words, name))

    visit(typer.main.get_command(app), ())
    return found


def blocks(text: str) -> Iterator[str]:
    """The lines of indented code blocks, with continued lines joined and comments removed."""
    code = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    for line in re.sub(r"\\\n", " ", code).splitlines():
        yield line.partition(" #")[0].strip()


def calls(text: str) -> Iterator[str]:
    """Everything that a page calls `haq` with: lines of code blocks and inline code, without the word `haq`."""
    for code in (*blocks(text), *re.findall(r"`([^`]+)`", " ".join(text.split()))):
        if match := re.search(r"(?:^|/|-m )haq ([^|]*)", code):
            yield match[1]


def command_of(call: str) -> str:
    """The command that a call names, the longest that exists; raises KeyError where none does."""
    words = call.split()
    for count in (2, 1):
        if " ".join(words[:count]) in commands() and words:
            return " ".join(words[:count])
    if words[0].startswith("-") or words[0].isupper():
        return ""
    raise KeyError(call)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_calls_name_commands_and_flags_that_exist(path: Path) -> None:
    for call in calls(path.read_text(encoding="utf-8")):
        flags = set(re.findall(r"(?<!\S)(--[a-z][a-z-]*)", call)) - OTHER_TOOLS
        assert flags <= commands()[command_of(call)], call


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_flags_exist(path: Path) -> None:
    known = set.union(*commands().values()) | OTHER_TOOLS
    named = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]*)", path.read_text(encoding="utf-8")))
    assert named <= known


def test_readme_has_a_row_for_every_command() -> None:
    rows = re.findall(r"^\| `haq ([a-z]+)` \|", README.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(rows) == sorted({words.split()[0] for words in commands() if words})


def test_readme_lists_exactly_the_shipped_devices() -> None:
    text = README.read_text(encoding="utf-8")
    section = text.split("## Devices\n", 1)[1].split("\n#", 1)[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`([^`]+)`", " ".join(first_cells))) == sorted(device_names())


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_devices_exist(path: Path) -> None:
    kinds = "bismo|bitfusion|systolic|gpu|mcu"
    named = set(
        re.findall(rf"(?<![\w/-])(?:{kinds})-[a-z0-9]+(?:-m7(?:-measured)?)?\b", path.read_text(encoding="utf-8"))
    )
    assert named <= {*device_names(), *target_names()}


@pytest.mark.parametrize("path", [*PAGES, *sorted((ROOT / "results").rglob("*.md"))], ids=str)
def test_links_lead_to_files_and_headings(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        page = path.parent / name if name else path
        assert page.exists(), target
        assert not anchor or anchor in anchors(page), target


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_scripts_in_pages_and_results_exist() -> None:
    for path in [*PAGES, *(ROOT / "results").rglob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "ARCHITECTURE.md"]:
        for script in re.findall(r"scripts/[a-z0-9_/]+\.py", path.read_text(encoding="utf-8")):
            assert (ROOT / script).is_file(), f"{path.name}: {script}"


def test_readme_has_at_most_120_lines_and_own_network_by_line_40() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert lines.index("## Your own network") < 40
    assert {"    make search", "    make test"} <= {line.partition("  #")[0].rstrip() for line in lines}


def test_readme_links_to_every_page() -> None:
    text = README.read_text(encoding="utf-8")
    assert all(f"docs/{page.name}" in text for page in PAGES[1:])


def test_files_page_explains_every_key_of_the_journal() -> None:
    line = (ROOT / "results" / "bismo-edge" / "episodes.jsonl").read_text(encoding="utf-8").splitlines()[0]
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    assert all(f"`{key}`" in text for key in json.loads(line))
