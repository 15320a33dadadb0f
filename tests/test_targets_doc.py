"""`docs/devices.md` keeps in step with what files of deployment targets may say."""

import re
from pathlib import Path

from hardware_sim.deployment_target import BitRule, DeploymentTarget
from hardware_sim.target_catalog import load_target, target_names

TEXT = (Path(__file__).resolve().parent.parent / "docs" / "devices.md").read_text(encoding="utf-8")
SECTION = TEXT.split("## Deployment targets\n", 1)[1].split("\n## ", 1)[0]

STORED = {"packed": "w_bits", "int8": "8 bits", "narrow": "2, 4 or 8 bits", "tflm": "with lookup tables"}


def rows(header: str) -> dict[str, list[str]]:
    """The rows of a table by the name in their first cell."""
    table = SECTION.split(header, 1)[1].split("\n\n", 1)[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if "`" in line]
    return {cell[0].strip("`"): cell[1:] for cell in cells}


def test_every_key_is_explained() -> None:
    found = rows("| key | meaning |")
    assert set(found) == set(DeploymentTarget.model_fields)
    for rule in ("bits", "first_last"):
        assert all(f"`{rule}.{key}`" in found[rule][0] for key in BitRule.model_fields)


def test_the_table_says_what_the_files_say() -> None:
    found = rows("| target |")
    assert sorted(found) == list(target_names())
    for name, (weights, activations, granularity, zero_points, scales, stored) in found.items():
        target = load_target(name)
        widths = [sorted({pair[part] for pair in target.pairs}) for part in (0, 1)]
        assert [_widths(weights), _widths(activations)] == widths
        assert granularity.replace(" ", "_") == target.weight_granularity
        assert (zero_points == "yes") == target.zero_points
        assert (scales == "any") == (not target.power_of_two_scales)
        assert stored == STORED[target.weight_storage]


def _widths(text: str) -> list[int]:
    low, to, high = text.partition(" to ")
    return list(range(int(low), int(high) + 1)) if to else [int(each) for each in text.split(",")]


def test_the_example_is_a_target(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", SECTION, flags=re.DOTALL)
    path = tmp_path / "mine.toml"
    path.write_text(example)
    target = load_target(path)
    assert target.pairs == {(4, 8), (8, 8)}
    assert target.end_pairs == {(8, 8)}
