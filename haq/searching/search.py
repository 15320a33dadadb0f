"""The search workflow: from a network and a budget to a policy in a run folder."""

from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from pydantic import ValidationError

from haq.config import SearchConfig
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.fingerprint import hash_network, hash_tensors
from haq.evaluation.protocols import Store
from haq.execution.pools import Workers
from haq.execution.progress import SILENT, Watcher
from haq.execution.user_code import caller_kept
from haq.experiment.artifact import Artifact
from haq.experiment.inputs import Inputs, Observations
from haq.experiment.layer_errors import measure_layer_errors
from haq.experiment.methods import uses_prior
from haq.experiment.preparation import prepare
from haq.experiment.prior.compute import compute_prior
from haq.experiment.prior.layer_losses import LayerLosses, prior_of_pairs
from haq.experiment.problem import Problem
from haq.experiment.result_tables import result_html, search_table
from haq.experiment.results import quantized_policy, save_result, save_source
from haq.policy import Policy, PolicyBudget, load_policy
from haq.runs.environment import describe_environment
from haq.runs.layer_errors import LAYER_ERRORS
from haq.runs.run_folder import CONFIG, POLICY, RESOLVED, SUMMARY, RunFolder
from haq.runs.summary import Summary
from haq.searching.accuracy_drop import no_policy_message, require_confidence, require_images, summarize_drop
from haq.searching.episodes import run_episodes
from haq.searching.min_cost import with_budget_ratio
from haq.searching.selection import Selection
from haq.searching.session import Session
from haq.searching.summary import Effort, cost_ratio, summarize

NO_INPUTS = Inputs()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Result of a search.

    Attributes:
        policy: The best policy within the budget.
        summary: Accuracies, costs and effort; `summary.model_dump(mode="json")` is the document of `summary.json`.
        path: Folder of the run; None if it was not kept.
        artifact: Artifact of the run, as `haq.load` returns it; None on the command line.
    """

    policy: Policy
    summary: Summary
    path: Path | None
    artifact: Artifact | None = None

    def _repr_html_(self) -> str:
        """Format scores, costs and bits for a notebook."""
        return result_html("Search", search_table(self.summary), self.policy, self.path)


def search_configured(
    config: SearchConfig,
    path: Path,
    *,
    inputs: Inputs = NO_INPUTS,
    resume: bool = False,
    time_limit_s: float | None = None,
    workers: Workers | None = None,
    watcher: Watcher = SILENT,
) -> SearchResult:
    """Run the search that a configuration describes, in a folder.

    Args:
        config: Settings of the search.
        path: Folder of the run.
        inputs: Objects that replace the model and the data that the configuration names, and shared results.
        resume: Continue a run that was interrupted, ended by its time limit, or has fewer episodes than `config`.
        time_limit_s: Time in seconds after which the search ends with the best policy so far; None for no limit.
        workers: Workers that evaluate policies, as many at a time as the configuration has `proposals`; None to
            evaluate them in this process. They have no effect on the results.
        watcher: Receives phases and episodes.

    Returns:
        The result; for a finished run, the stored one.

    Raises:
        UserError: A setting is wrong, or model or data cannot be loaded; at the end, if no policy met the goal.
        UnsupportedError: The device cannot run the network. It and `BudgetError` are raised before the first episode.
        BudgetError: No policy can meet the budget.
    """
    began, limit_s = monotonic(), inf if time_limit_s is None else time_limit_s
    settings = config.model_dump(mode="json") | _observations_key(inputs.observations)
    with (
        RunFolder.opened(path, settings, resume=resume, may_differ="episodes") as earlier,
        caller_kept(inputs.model),
    ):
        if earlier is not None and not _continues(earlier, config, limit_s):
            return finished(earlier)
        RunFolder.require_writable(path)
        problem = prepare(
            config,
            model=inputs.model,
            task=inputs.task,
            network=inputs.network,
            require=partial(require_images, config),
            progress=watcher.phase,
        )
        losses = _layer_losses(problem, inputs, watcher)
        watcher.phase("float accuracy")
        session = begin_session(
            problem, losses=losses, store=inputs.store, observations=inputs.observations, began=began
        )
        environment = describe_environment(seed=config.seed, device=config.device)
        if earlier is not None:
            _require_same_network(earlier, problem)
        run = earlier or RunFolder.create(path, settings | _resolved(problem), environment, resume=resume)
        session.enter(run)
        save_source(run, config, problem.priced.trace, problem.task.example())
        if earlier is not None:
            run.reopen_results(episodes=config.episodes)
        run_episodes(session, time_limit_s=limit_s, workers=workers, watcher=watcher)
        return _finish(session, run, losses, watcher)


def _layer_losses(problem: Problem, inputs: Inputs, watcher: Watcher) -> LayerLosses | None:
    """Return the losses that the caller has, or compute those of the prior; None without a prior."""
    if not uses_prior(problem.config):
        return None
    watcher.phase("sensitivities")
    return inputs.losses or compute_prior(problem.network, problem.config.prior)


def _require_same_network(run: RunFolder, problem: Problem) -> None:
    """Raise UserError if a run was started with other weights or inputs under the same names."""
    before = ((run.read_json(CONFIG) or {}).get(RESOLVED) or {}).get("network")
    if before is not None and before != _network_hash(problem):
        raise UserError(
            f"the network, or its first input, is another than {run.path} was started with; choose another --out"
        )


def _network_hash(problem: Problem) -> str:
    """Return a hash of the network's parameters and buffers, and of the input that it was traced with."""
    digest = blake2b(digest_size=16)
    hash_network(digest, problem.priced.model)
    hash_tensors(digest, problem.task.example())
    return digest.hexdigest()


def _continues(run: RunFolder, config: SearchConfig, limit_s: float) -> bool:
    """Return whether a run is to be continued: unfinished, with more episodes to come, or ended by a lower time limit.

    Raises:
        UserError: If it has more episodes than it is to have.
    """
    done = run.episodes.count()
    if config.episodes < done:
        raise UserError(f"{run.path} has {done} episodes already; --episodes {config.episodes} would be fewer")
    if not run.is_finished or config.episodes != (run.read_json(CONFIG) or {}).get("episodes"):
        return True
    summary = finished(run).summary
    if done < summary.episodes:  # interrupted as it began to continue
        return True
    return summary.ended_by == "time" and summary.seconds < limit_s


def begin_session(
    problem: Problem,
    *,
    losses: LayerLosses | None = None,
    store: Store | None = None,
    observations: Observations = (),
    began: float | None = None,
) -> Session:
    """Create a session.

    Args:
        problem: The prepared problem.
        losses: Loss of every layer at every width, from which the prior is computed; None for no prior.
        store: Evaluations of other searches.
        observations: Policies of other searches with their scores, tried first.
        began: Time, by `monotonic`, at which the preparation started; None for now.

    Returns:
        The session, without episodes.

    Raises:
        UserError: The method needs a library that is not installed.
    """
    expected = None if losses is None else prior_of_pairs(losses.losses, problem.choice.decision_of_layer)
    session = Session(problem, prior=expected, store=store, observations=observations, began=began)
    if losses is not None:
        session.warnings += losses.warnings
    return session


def finished(run: RunFolder) -> SearchResult:
    """Read the result of a finished run.

    Args:
        run: Folder of the run.

    Returns:
        The result, without an artifact.

    Raises:
        UserError: A file is missing or damaged.
    """
    try:
        summary = Summary.model_validate(run.read_json(SUMMARY))
    except ValidationError as error:
        raise UserError(f"{run.path} holds no finished run: {SUMMARY} is missing or damaged") from error
    return SearchResult(load_policy(run.path / POLICY), summary, run.path)


def _finish(session: Session, run: RunFolder, losses: LayerLosses | None, watcher: Watcher) -> SearchResult:
    """Select the winner, measure it on the report split, and write the last files; the summary comes last."""
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
    return SearchResult(quantized.policy, summary, run.path)


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


def _observations_key(observations: Observations) -> dict[str, Any]:
    """Return the entry of `config.json` that identifies the policies tried first, on which the result depends."""
    if not observations:
        return {}
    digest = blake2b(repr([(bits.tolist(), score) for bits, score in observations]).encode(), digest_size=8)
    return {"told": f"{len(observations)} policies, {digest.hexdigest()}"}


def _resolved(problem: Problem) -> dict[str, Any]:
    """Return the entry of `config.json` with the values that the settings have for this network and these data."""
    return {
        RESOLVED: {
            "network": _network_hash(problem),
            "engine": problem.network.engine.name,
            "engine_reason": problem.network.engine_reason,
            "batch": problem.priced.table.batch,
            "budget": [{"objective": each.budget.objective, "value": each.budget.limit} for each in problem.budgets],
            "data": dict(problem.task.description()),
        },
    }
