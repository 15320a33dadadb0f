"""Checks of searches with a maximum accuracy drop, and the accuracy drop of their result."""

from haq.config import SearchConfig
from haq.errors import UserError
from haq.experiment.problem import Problem
from haq.policy import Policy
from haq.runs.summary import AccuracyDrop, PairedCounts
from haq.searching.confidence import METHOD, confidence_of_drop, images_needed
from haq.searching.paired_answers import paired
from haq.searching.selection import Selection
from haq.tasks.base import SplitName, Task
from haq.tasks.optional import GradedTask


def require_images(config: SearchConfig, task: Task) -> None:
    """Check that the search split is large enough to show the required confidence.

    The check assumes a policy that is right on the same images as the float network. Without `confidence`, nothing is
    required.

    Args:
        config: Settings of the search.
        task: Data.

    Raises:
        UserError: The search split is too small, or the task does not count right images.
    """
    points, confidence = config.max_accuracy_drop, config.confidence
    if points is None or confidence is None:
        return
    if not isinstance(task, GradedTask):
        raise UserError(f"--confidence needs a classification task, which {task.name} is not; leave it out")
    if not points:
        raise UserError("--confidence cannot be reached for a drop of 0; give a --max-accuracy-drop above 0")
    images, needed = task.size("search"), images_needed(points / 100, confidence)
    if images < needed:
        raise UserError(
            f"{images} search images cannot show at {_text(confidence)} confidence that a drop is at most {points:g} "
            f"points; give at least {needed}, with a larger --search-images"
        )


def require_confidence(config: SearchConfig, selection: Selection, *, search_images: int) -> None:
    """Check that the winner reached the required confidence on the search and selection images.

    Args:
        config: Settings of the search.
        selection: The winner and its confidence.
        search_images: Number of search images.

    Raises:
        UserError: The confidence is lower than required.
    """
    if selection.confidence is None or config.confidence is None or selection.confidence >= config.confidence:
        return
    raise UserError(
        f"{no_policy_message(config)} by {search_images + selection.images} search and selection images; the closest, "
        f"episode {selection.winner.episode}, reaches {_text(selection.confidence)}; --resume with more --episodes"
    )


def no_policy_message(config: SearchConfig) -> str:
    """Describe the failure of a search in which no policy was within the accuracy drop.

    Args:
        config: Settings of the search, with a `max_accuracy_drop`.

    Returns:
        The beginning of an error message.
    """
    limit = f"{config.max_accuracy_drop:g} points of accuracy"
    if config.confidence is None:
        return f"no policy lost at most {limit}"
    return f"no policy was shown to lose at most {limit} at {_text(config.confidence)} confidence"


def summarize_drop(problem: Problem, policy: Policy, selection: Selection) -> AccuracyDrop:
    """Compute the accuracy drop of the policy on every split, and the confidence that it is within the limit.

    The report split took no part in any decision; the selection split in one, among a few policies.

    Args:
        problem: The problem, with a `max_accuracy_drop`.
        policy: The winner, with its accuracies on all splits.
        selection: Winner and finalists of the search.

    Returns:
        Drops and confidences, as fractions.
    """
    points, task = problem.config.max_accuracy_drop, problem.task
    assert points is not None
    limit = points / 100
    splits: tuple[SplitName, ...] = ("selection", "report") if isinstance(task, GradedTask) else ()
    bits = selection.winner.key
    pairs = {
        split: paired(problem.network.engine, task, split, bits, batch_size=problem.config.eval_batch)
        for split in splits
        if task.size(split)
    }
    return AccuracyDrop(
        limit=limit,
        search=_lost(policy, "search") or 0.0,
        selection=_lost(policy, "selection"),
        report=_lost(policy, "report"),
        confidence={split: confidence_of_drop(each, limit) for split, each in pairs.items()},
        paired={split: PairedCounts(**each._asdict()) for split, each in pairs.items()},
        confidence_required=problem.config.confidence,
        confidence_reached=selection.confidence,
        method=METHOD if pairs else None,
    )


def _lost(policy: Policy, split: str) -> float | None:
    """Return the float network's accuracy on a split less the policy's; None where it was not measured."""
    accuracy, fp32 = policy.accuracy.get(split), policy.accuracy.get(f"fp32_{split}")
    return None if accuracy is None or fp32 is None else fp32 - accuracy


def _text(confidence: float) -> str:
    return f"{100 * confidence:.4g} %"
