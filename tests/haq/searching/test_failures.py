"""Policies whose evaluation fails are marked, the search goes on without them, and three in a row end it."""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from haq.config import SearchConfig, search_config
from haq.errors import FailedEvaluationError, HaqWarning, UserError
from haq.evaluation.engines.torch import TorchEngine
from haq.execution.progress import Silent
from haq.execution.structures import Structure, item_count
from haq.experiment.inputs import Inputs
from haq.policy import PolicyBits
from haq.reporting.plots import draw_missing
from haq.searching.search import SearchResult, search_configured
from haq.tasks.classification import ClassificationTask
from haq.tasks.predictions import Runner

Fails = Callable[[PolicyBits], bool]


class Warnings(Silent):
    """A watcher that remembers warnings."""

    def __init__(self) -> None:
        self.texts = list[str]()

    def warn(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fails], None]:
    """Lets the outputs of some policies be NaN."""
    corrected = TorchEngine.corrected

    def make(fails: Fails) -> None:
        def runner(self: TorchEngine, bits: PolicyBits, corrections: Any) -> Runner:
            run = corrected(self, bits, corrections)
            return (lambda inputs: run(inputs) * torch.nan) if fails(bits) else run

        monkeypatch.setattr(TorchEngine, "corrected", runner)

    return make


@pytest.fixture
def search(tiny_net: nn.Module, held_out_task: ClassificationTask) -> Callable[..., SearchResult]:
    inputs = Inputs(tiny_net, held_out_task)

    def run(path: Path, *, resume: bool = False, watcher: Silent | None = None, **settings: Any) -> SearchResult:
        return search_configured(small(**settings), path, inputs=inputs, resume=resume, watcher=watcher or Silent())

    return run


def small(**settings: Any) -> SearchConfig:
    defaults: Any = {"model": "TinyNet", "data": "blobs", "engine": "torch", "first_last_bits": None, "episodes": 12}
    return search_config(**{**defaults, "agent": "random", "budget": ("0.7",), **settings})


def journal(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "episodes.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def odd(bits: PolicyBits) -> bool:
    """Fails for about half of all policies of the search, and none of uniform bits of 8."""
    return sum(map(int, filter(None, bits[0]))) % 2 == 1


@pytest.mark.parametrize("settings", [{}, {"agent": "ddpg"}, {"reward": "accuracy"}, {"max_accuracy_drop": 20.0}])
def test_failed_policies_are_marked_and_never_chosen(
    settings: dict[str, Any],
    failing: Callable[[Fails], None],
    search: Callable[..., SearchResult],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("haq.searching.failures.MAX_FAILURES", 10**6)
    failing(odd)
    if "max_accuracy_drop" in settings:
        settings = {**settings, "budget": None}
    watcher, run = Warnings(), tmp_path / "run"
    result = search(run, watcher=watcher, **settings)
    lines = journal(run)
    marked = [line["episode"] for line in lines if "failure" in line]
    assert marked == [line["episode"] for line in lines if sum(line["w_bits"]) % 2]
    assert 0 < len(marked) < len(lines)
    assert [text for text in watcher.texts if "could not be evaluated" in text] == [
        f"the policy of episode {number} could not be evaluated: divergence nan, relative output error nan"
        for number in marked
    ]
    assert all((lines[number]["accuracy"], lines[number]["noise"]) == (0.0, 10.0) for number in marked)
    assert not odd((result.policy.w_bits, result.policy.a_bits))
    draw_missing(run)
    for name in ("summary.json", "quantizers.safetensors", "checkpoint.pt"):
        (run / name).unlink()
    kept = (run / "policy.json").read_bytes()
    search(run, resume=True, **settings)
    assert journal(run) == lines
    assert (run / "policy.json").read_bytes() == kept


def test_three_failures_in_a_row_end_the_search_with_the_reason(
    failing: Callable[[Fails], None], search: Callable[..., SearchResult], tmp_path: Path
) -> None:
    failing(lambda _: True)
    reason = "divergence nan, relative output error nan"
    for resume in (False, True):
        with pytest.raises(UserError, match=rf"3 policies in a row could not be evaluated \({reason}\); raise --min"):
            search(tmp_path / "run", resume=resume)
        assert [line["failure"] for line in journal(tmp_path / "run")] == 3 * [reason]


def test_evaluating_a_failed_policy_is_an_error(
    failing: Callable[[Fails], None], tiny_net: nn.Module, tiny_task: ClassificationTask
) -> None:
    import haq

    failing(lambda _: True)
    with pytest.raises(FailedEvaluationError, match="the policy fails on the search split: divergence nan"):
        haq.reconstruct(tiny_net, tiny_task, policy=(4, 4), steps=1)


def test_search_with_little_memory_gives_the_same_result(
    search: Callable[..., SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(tmp_path / "whole")
    corrected = TorchEngine.corrected

    def limited(self: TorchEngine, bits: PolicyBits, corrections: Any) -> Runner:
        run = corrected(self, bits, corrections)

        def run_few(inputs: Structure) -> Structure:
            if item_count(inputs) > 25:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return run(inputs)

        return run_few

    monkeypatch.setattr(TorchEngine, "corrected", limited)
    with pytest.warns(HaqWarning, match="memory does not suffice for a batch of 40; it is divided into batches of 20"):
        search(tmp_path / "run")
    found, expected = journal(tmp_path / "run"), journal(tmp_path / "whole")
    for name in ("w_bits", "accuracy"):
        assert [line[name] for line in found] == [line[name] for line in expected]
    assert [line["noise"] for line in found] == pytest.approx([line["noise"] for line in expected])


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Limit the file size, which acts like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_search_continues_after_the_disk_was_full(
    search: Callable[..., SearchResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal, the largest file so far, ends in the middle of its last line."""
    monkeypatch.setattr("haq.searching.session.CHECKPOINT_SECONDS", inf)
    search(tmp_path / "whole")
    run = tmp_path / "run"
    size_bytes = (tmp_path / "whole" / "episodes.jsonl").stat().st_size - 100
    with pytest.raises(OSError, match="File too large") as caught, largest_file(size_bytes):
        search(run)
    assert caught.value.filename == str(run / "episodes.jsonl")
    assert not (run / "episodes.jsonl").read_text().endswith("\n")
    search(run, resume=True)
    assert journal(run) == journal(tmp_path / "whole")
    assert (run / "policy.json").read_bytes() == (tmp_path / "whole" / "policy.json").read_bytes()
