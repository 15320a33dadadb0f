"""Which policies a table holds, and what its file says."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from haq.config import search_config
from haq.problem import prepare

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "tabulate_policies.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tabulate_policies", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_policies_are_different_uniform_first_and_the_same_from_any_number(script: ModuleType) -> None:
    config = search_config(calibration_images=64)
    many, few = (np.array(script.draw_policies(config, count)) for count in (300, 100))
    assert np.array_equal(many[:100], few)
    assert len(np.unique(many, axis=0)) == 300
    assert [tuple(pair) for pair in many[:49, 1]] == [(w, a) for w in range(2, 9) for a in range(2, 9)]
    assert (many[:, [0, -1]] == 8).all()
    assert many.min() == 2


def test_budgets_that_searches_have_are_reached(script: ModuleType) -> None:
    policies = script.draw_policies(search_config(calibration_images=64), 300)
    for each in script.BUDGETS:
        choice = prepare(search_config(calibration_images=64, **each)).choice
        used = [float(choice.total(bits[list(choice.layer_of_decision)])[0] / choice.limits[0]) for bits in policies]
        assert sum(0.97 < share <= 1 + 1e-9 for share in used) >= 10, each


def test_a_table_is_read_without_pickles_and_says_how_it_was_made(script: ModuleType, tmp_path: Path) -> None:
    policies = [np.array([[8, 8], [2, 3]]), np.array([[8, 8], [4, 5]])]
    rows = [script.Row(0.5, 0.25), script.Row(0.75, 0.125)]
    for name in ("one.npz", "two.npz"):
        script.write_table(tmp_path / "new" / name, policies, rows, {"command": "python"})
    assert (tmp_path / "new" / "one.npz").read_bytes() == (tmp_path / "new" / "two.npz").read_bytes()
    table = np.load(tmp_path / "new" / "one.npz", allow_pickle=False)
    assert table["bits"].dtype == np.int8
    assert table["bits"].tolist() == [bits.tolist() for bits in policies]
    assert table["accuracy"].tolist() == [0.5, 0.75]
    assert table["divergence"].dtype == np.float32
    assert json.loads(str(table["about"])) == {"command": "python"}
