"""End of a search: the winner is selected and measured on the report split, and the last files are written."""

from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.execution.progress import Watcher
from haq.experiment.layer_errors import measure_layer_errors
from haq.experiment.prior.layer_losses import LayerLosses
from haq.experiment.results import quantized_policy, save_result
from haq.policy import Policy, PolicyBudget
from haq.runs.layer_errors import LAYER_ERRORS
from haq.runs.run_folder import RunFolder
from haq.runs.summary import Summary
from haq.searching.accuracy_drop import no_policy_message, require_confidence, summarize_drop
from haq.searching.min_cost import with_budget_ratio
from haq.searching.selection import Selection
from haq.searching.session import Session
from haq.searching.summary import Effort, cost_ratio, summarize


def finish(session: Session, run: RunFolder, *, losses: LayerLosses | None, watcher: Watcher) -> tuple[Policy, Summary]:
    """Select the winner of a search, measure it, and write its files; the summary comes last.

    Args:
        session: The session after its last episode.
        run: Folder of the search.
        losses: Loss of every layer at every width that the prior was computed from; None without a prior.
        watcher: Receives phases.

    Returns:
        The winner with its quantizers, and the summary.

    Raises:
        UserError: No policy met the goal.
    """
    _require_result(session, run)
    watcher.phase("selection")
    selection = session.select()
    require_confidence(session.problem.config, selection, search_images=session.problem.task.size("search"))
    watcher.phase("report")
    policy, summary = _report(session, selection, prior_images=losses.forward_images if losses else 0)
    quantized = quantized_policy(session.problem.network, policy)
    errors = measure_layer_errors(session.problem.network, (policy.w_bits, policy.a_bits), losses)
    if errors is not None:
        run.write_json(LAYER_ERRORS, errors.model_dump(mode="json"))
    session.checkpoint()  # its seconds, from which a continued run counts on, cover the end as well
    summary = summary.model_copy(update={"seconds": round(session.seconds, 3)})
    save_result(run, quantized, summary.model_dump(mode="json"))
    return quantized.policy, summary


def _require_result(session: Session, run: RunFolder) -> None:
    """Raise UserError if no policy met the goal."""
    if session.found.best is None:
        config, count = session.problem.config, session.episode_count
        missed = "no policy met the budget" if config.max_accuracy_drop is None else no_policy_message(config)
        raise UserError(f"{missed} in {count} episode{'s' if count > 1 else ''}; the nearest miss is in {run.path}")


def _report(session: Session, selection: Selection, *, prior_images: int) -> tuple[Policy, Summary]:
    """Measure the winner on the report split; return it with its accuracies, and the summary."""
    problem, policy = session.problem, session.found.policy(selection.winner)
    is_min_cost = problem.config.max_accuracy_drop is not None
    if is_min_cost:  # report the budget that would have given this policy
        problem = with_budget_ratio(problem, cost_ratio(problem, policy.cost))
    evaluator = Evaluator(
        problem.network.engine, problem.task, "report", batch_size=problem.config.eval_batch, store=session.store
    )
    reason = session.single_policy_reason
    summary = summarize(
        problem,
        policy,
        selection,
        report=evaluator,
        effort=_effort(session, selection, prior_images),
        notes=[*problem.priced.table.notes, *([reason] if reason else [])],
    )
    accuracy = {"report": summary.accuracy, "fp32_report": summary.accuracy_fp32}
    if selection.accuracy is not None and selection.accuracy_fp32 is not None:
        accuracy |= {"selection": selection.accuracy, "fp32_selection": selection.accuracy_fp32}
    budget = tuple(PolicyBudget.model_validate(each.model_dump()) for each in summary.budget)
    policy = policy.with_accuracy(**accuracy).in_version_2(budget=budget)
    if is_min_cost:
        summary = summary.model_copy(update={"max_accuracy_drop": summarize_drop(problem, policy, selection)})
    return policy, summary


def _effort(session: Session, selection: Selection, prior_images: int) -> Effort:
    """Return the effort of the search, with the prior and the selection of the winner, without the report."""
    before = session.problem.network.calibration_images + prior_images
    return Effort(
        episodes=session.episode_count,
        ended_by=session.ended_by or "time",
        evaluations=session.evaluator.evaluations + selection.evaluations,
        forward_images=session.forward_images + selection.forward_images + before,
        warnings=session.warnings,
        seconds=session.seconds,
    )
