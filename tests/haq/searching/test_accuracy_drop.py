"""Requirements and summary of a search with a limited drop of accuracy."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from haq.errors import UserError
from haq.searching.accuracy_drop import no_policy_message, require_confidence, require_images, summarize_drop
from haq.searching.confidence import METHOD, Pairs, confidence_of_drop
from haq.searching.selection import Selection


class Graded:
    """Items that the float network classifies right, and a policy all but the first of each batch."""

    name = "graded"

    def __init__(self, **sizes: int) -> None:
        self._sizes = sizes

    def size(self, split: str) -> int:
        return self._sizes.get(split, 0)

    def batches(self, split: str, *, batch_size: int) -> Any:
        yield from ((each, each) for each in torch.arange(self.size(split)).split(batch_size))

    def correct(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return outputs == targets


class Engine:
    name, images_per_policy = "fixed", 0

    def runner(self, bits: object) -> Any:
        return lambda inputs: inputs if bits is None else torch.cat([inputs[:1] - 1, inputs[1:]])


def settings(points: float | None, confidence: float | None = None) -> Any:
    return SimpleNamespace(max_accuracy_drop=points, confidence=confidence, eval_batch=5)


def selection(confidence: float | None = None, images: int = 0) -> Selection:
    winner: Any = SimpleNamespace(episode=7, key=((4,), (4,)))
    return Selection(winner, confidence=confidence, images=images)


def test_only_a_required_confidence_needs_images() -> None:
    few: Any = Graded(search=1)
    for points, confidence in ((None, None), (0.5, None), (None, 0.95)):
        require_images(settings(points, confidence), few)


def test_images_of_the_search_have_to_show_the_limit() -> None:
    enough, few = Graded(search=894), Graded(search=893)
    require_images(settings(0.5, 0.95), enough)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"893 search images cannot show at 95 % .* 0\.5 points; .* least 894"):
        require_images(settings(0.5, 0.95), few)  # type: ignore[arg-type]


def test_confidence_of_a_drop_of_zero_or_of_other_tasks_is_refused() -> None:
    graded, other = Graded(search=10**6), SimpleNamespace(name="motion", size=lambda _: 10**6)
    with pytest.raises(UserError, match="drop of 0; give a --max-accuracy-drop above 0"):
        require_images(settings(0.0, 0.95), graded)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="which motion is not"):
        require_images(settings(0.5, 0.95), other)  # type: ignore[arg-type]


def test_confidence_below_the_required_one_is_refused() -> None:
    for reached, required in ((None, 0.9), (0.5, None), (0.9, 0.9), (0.95, 0.9)):
        require_confidence(settings(1.0, required), selection(reached), search_images=100)
    with pytest.raises(UserError, match=r"at 90 % confidence by 140 search .* episode 7, reaches 89\.99 %; --resume"):
        require_confidence(settings(1.0, 0.9), selection(0.8999, images=40), search_images=100)


def test_message_names_limit_and_confidence() -> None:
    assert no_policy_message(settings(0.5)) == "no policy lost at most 0.5 points of accuracy"
    assert (
        no_policy_message(settings(1.0, 0.955))
        == "no policy was shown to lose at most 1 points of accuracy at 95.5 % confidence"
    )


def make_problem(task: object) -> Any:
    return SimpleNamespace(config=settings(2.0, 0.9), task=task, network=SimpleNamespace(engine=Engine()))


def test_summary_has_drops_and_confidences_of_splits_that_exist() -> None:
    policy: Any = SimpleNamespace(
        accuracy={"search": 0.9, "fp32_search": 0.95, "report": 0.96, "fp32_report": 0.94, "selection": 0.5}
    )
    found = summarize_drop(make_problem(Graded(search=9, report=12)), policy, selection(0.93))
    assert (found.limit, found.confidence_required, found.confidence_reached) == (0.02, 0.9, 0.93)
    assert (found.search, found.report) == (pytest.approx(0.05), pytest.approx(-0.02))
    assert found.selection is None
    # 12 images are 3 batches, in each of which the policy misses the first.
    assert found.confidence == {"report": confidence_of_drop(Pairs(3, 0, 12), 0.02)}
    assert found.paired["report"].model_dump() == {"lost": 3, "won": 0, "images": 12}
    assert list(found.paired) == ["report"]
    assert found.method == METHOD


def test_summary_of_a_task_without_right_and_wrong_has_no_confidence() -> None:
    task = SimpleNamespace(name="motion", size=lambda _: 12)
    policy: Any = SimpleNamespace(accuracy={"search": 0.9, "fp32_search": None})
    found = summarize_drop(make_problem(task), policy, selection())
    assert (found.search, found.confidence, found.paired, found.method) == (0.0, {}, {}, None)


def test_both_held_out_splits_are_counted() -> None:
    policy: Any = SimpleNamespace(accuracy={"selection": 0.75, "fp32_selection": 1.0})
    found = summarize_drop(make_problem(Graded(selection=5, report=6)), policy, selection())
    assert {split: each.lost for split, each in found.paired.items()} == {"selection": 1, "report": 2}
    assert found.selection == 0.25
