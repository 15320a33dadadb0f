"""Whether images can show, and have shown, with the confidence asked for that no more accuracy is lost than may be."""

from haq.config import SearchConfig
from haq.errors import UserError
from haq.searching.confidence import images_needed
from haq.searching.selection import Selection
from haq.tasks.base import GradedTask, Task


def require_images(config: SearchConfig, task: Task) -> None:
    """Raise UserError where no policy could reach the confidence, one that answers like the float network included."""
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


def require_reached(config: SearchConfig, selection: Selection, *, search_images: int) -> None:
    """Raise UserError where not even the best of the finalists reached the confidence on all images."""
    if selection.confidence is None or config.confidence is None or selection.confidence >= config.confidence:
        return
    raise UserError(
        f"{nothing_shown(config)} by {search_images + selection.images} search and selection images; the closest, "
        f"episode {selection.winner['episode']}, reaches {_text(selection.confidence)}; --resume with more --episodes"
    )


def nothing_shown(config: SearchConfig) -> str:
    """What is to be said of a search in which no policy kept the drop."""
    limit = f"{config.max_accuracy_drop:g} points of accuracy"
    if config.confidence is None:
        return f"no policy lost at most {limit}"
    return f"no policy was shown to lose at most {limit} at {_text(config.confidence)} confidence"


def _text(confidence: float) -> str:
    return f"{100 * confidence:.4g} %"
