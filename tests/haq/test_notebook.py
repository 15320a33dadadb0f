"""`_repr_html_` of policies, problems and results, and the callbacks of the documentation."""

import logging
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import nn

import haq
from haq.config import search_config
from haq.experiment.preparation import prepare
from haq.layer_bits import LayerBits
from haq.notebook import OPEN_ROWS, notebook_html
from haq.policy import CostSummary, Policy
from haq.tables import Table
from haq.tasks.classification import ClassificationTask

DOCS = Path(__file__).resolve().parents[2] / "docs"
HOSTILE = "<script>alert('x')</script>"
QUICK: dict[str, Any] = {"budget": 0.9, "agent": "uniform", "engine": "torch"}


class Cells(HTMLParser):
    """Texts and tags of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, _: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_policy_shows_costs_scores_and_bits_and_escapes_every_text() -> None:
    layers = tuple(LayerBits(name=f"{HOSTILE}{place}", kind="conv", w_bits=4, a_bits=None) for place in range(2))
    policy = Policy(
        model=HOSTILE,
        hardware=HOSTILE,
        objective="latency",
        layers=layers,
        cost=CostSummary(latency_s=0.001),
        baseline_cost=CostSummary(latency_s=0.004),
        accuracy={HOSTILE: 0.875},
    )
    shown = Cells(policy._repr_html_())
    assert "script" not in shown.tags
    assert {"1 ms", "25.0 %", "0.875", "4", "float", f"{HOSTILE}1"} <= set(shown.texts)


def test_long_tables_are_folded() -> None:
    rows = tuple((f"layer{place}", "4") for place in range(OPEN_ROWS + 1))
    assert "details" in Cells(notebook_html("", [Table(("layer", "bits"), rows)])).tags
    assert "details" not in Cells(notebook_html("", [Table(("layer", "bits"), rows[1:])])).tags


def test_problems_and_results_show_their_numbers(tiny_net: nn.Module, tiny_task: ClassificationTask) -> None:
    searched = haq.search(tiny_net, tiny_task, episodes=2, **QUICK)
    learned = haq.reconstruct(tiny_net, tiny_task, policy=searched.policy, steps=1, engine="torch")
    splits = {name: split.items for name, split in tiny_task.splits.items()}
    trained = haq.finetune(tiny_net, {**splits, "train": splits["calibration"]}, policy=searched.policy, epochs=1)
    for result, names in (
        (searched, {"Search", "policy found", "of 8 bits"}),
        (learned, {"Reconstruction", "reconstructed"}),
        (trained, {"Fine-tuning", "fine-tuned"}),
    ):
        shown = set(Cells(result._repr_html_()).texts)
        assert {*names, f"{100 * result.summary.accuracy:.2f} %", result.policy.layers[0].name} <= shown
    config = search_config(budget="0.9", engine="torch")
    problem = Cells(prepare(config, model=tiny_net, task=tiny_task)._repr_html_()).texts
    assert any(text.endswith("90.0 % of 8 bits") for text in problem)
    assert any("report 40" in text for text in problem)


def snippet(name: str) -> type[Any]:
    """The class of this name in the documentation."""
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "own_networks.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    (code,) = (block for block in blocks if f"class {name}(" in block)
    names: dict[str, Any] = {}
    exec(code, names)
    found: type[Any] = names[name]
    return found


def test_the_documented_logger_logs_phases_and_episodes(
    tiny_net: nn.Module, tiny_task: ClassificationTask, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    haq.search(tiny_net, tiny_task, episodes=2, watcher=snippet("Log")(), **QUICK)
    assert [line[:3] for line in caplog.messages if re.match(r"\d: ", line)] == ["1: ", "2: "]
    assert {"calibrate", "report"} <= set(caplog.messages)


def test_the_documented_board_gets_the_numbers_of_every_episode_and_step(
    tiny_net: nn.Module, tiny_task: ClassificationTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert folder == "logs"

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None:
            written.append(("flushed", 0.0, 0))

    module = ModuleType("torch.utils.tensorboard")
    monkeypatch.setattr(module, "SummaryWriter", SummaryWriter, raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    result = haq.search(tiny_net, tiny_task, episodes=2, watcher=snippet("Board")("logs"), **QUICK)
    assert {(name, step) for name, _, step in written} >= {("accuracy", 1), ("cost", 2), ("noise", 2)}
    assert written[-1][0] == "flushed"
    haq.reconstruct(
        tiny_net, tiny_task, policy=result.policy, steps=3, watcher=snippet("Board")("logs"), engine="torch"
    )
    assert [step for name, _, step in written if name == "loss"] == [1, 2, 3]
