"""Lines that a search displays while it runs: its setting at the start, the best policy so far after each episode."""

from collections.abc import Iterator

from haq.costs.pricing import cost_in
from haq.formatting import counted, format_cost, percent
from haq.searching.session import Session


def opening_lines(session: Session) -> Iterator[str]:
    """Describe network, device, budgets, engine and images of a search.

    Args:
        session: The search.

    Yields:
        One line for each fact.
    """
    problem = session.problem
    config, task, priced = problem.config, problem.task, problem.priced
    layers = counted(len(priced.layers), "layer")
    yield f"{priced.name} ({layers}) on {priced.table.hardware}, batch {priced.table.batch}"
    if config.max_accuracy_drop is not None:
        sure = "" if config.confidence is None else f", at {100 * config.confidence:.4g} % confidence"
        yield f"least {config.objective}, at most {config.max_accuracy_drop:g} points below the float accuracy{sure}"
    else:
        for each in problem.budgets:
            limit = format_cost(each.budget.objective, each.budget.limit)
            yield f"at most {limit} {each.budget.objective} ({percent(each.ratio)} of 8 bits)"
    yield f"engine: {problem.network.engine_reason}"
    score = task.metric.text(session.evaluator.accuracy_fp32, digits=2)
    yield f"float {task.metric.name} {score} on {task.size('search')} search {task.metric.items}"
    if task.size("selection"):
        yield f"the best few policies are measured again on {task.size('selection')} selection {task.metric.items}"


def best_so_far(session: Session) -> str:
    """Describe the best policy on the search images.

    It may differ from the result of the search, which is selected on more images.

    Args:
        session: The search.

    Returns:
        One line with the accuracy and the cost.
    """
    best, metric = session.found.best, session.problem.task.metric
    if best is None:
        return f"best on search {metric.items}: none yet"
    baseline = cost_in(session.problem.config.objective, session.problem.priced.baseline)
    score = metric.text(best.accuracy, digits=2)
    return f"best on search {metric.items}: {score} at {percent(best.cost / baseline)}"
