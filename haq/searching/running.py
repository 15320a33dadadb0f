"""The search as a function: from a network and a budget to a policy."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

from haq.config import SearchConfig
from haq.errors import UserError
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.fingerprint import hash_network, hash_tensor
from haq.evaluation.protocols import Store
from haq.execution.progress import SILENT, Watcher
from haq.execution.user_code import caller_kept
from haq.experiment.artifact import Artifact, quantized_policy, save_result, save_source
from haq.experiment.inputs import Inputs, Observations
from haq.experiment.methods import uses_prior
from haq.experiment.prior.compute import compute_prior
from haq.experiment.prior.layer_losses import LayerLosses, prior
from haq.experiment.problem import Problem, prepare
from haq.policy import Policy, PolicyBudget, load_policy
from haq.runs.environment import describe_environment
from haq.runs.records import holds
from haq.runs.run_folder import CONFIG, POLICY, RESOLVED, SUMMARY, RunFolder
from haq.searching.min_cost import at_ratio
from haq.searching.progress import best_so_far, opening_lines
from haq.searching.records import Summary
from haq.searching.required_confidence import nothing_shown, require_images, require_reached
from haq.searching.selection import Selection
from haq.searching.session import Session
from haq.searching.summary import cost_ratio, summarize, summarize_drop

NOTHING_GIVEN = Inputs()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Result of a search.

    Attributes:
        policy: The best policy within the budget.
        summary: Contents of `summary.json`.
        path: Folder of the run; None if it was not kept.
        artifact: What the run left, as `haq.load` returns it; None on the command line.
    """

    policy: Policy
    summary: Mapping[str, Any]
    path: Path | None
    artifact: Artifact | None = None


def search_configured(
    config: SearchConfig,
    path: Path,
    *,
    inputs: Inputs = NOTHING_GIVEN,
    resume: bool = False,
    time_limit_s: float | None = None,
    watcher: Watcher = SILENT,
) -> SearchResult:
    """The search that a configuration describes, kept in a folder; see `search`."""
    began, limit_s = monotonic(), inf if time_limit_s is None else time_limit_s
    asked = config.model_dump(mode="json") | _observations_key(inputs.observations)
    with (
        RunFolder.opened(path, asked, resume=resume, may_differ="episodes") as earlier,
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
        losses = None
        if uses_prior(config):
            watcher.phase("sensitivities")
            losses = inputs.losses or compute_prior(problem.network, config.prior)
        watcher.phase("float accuracy")
        session = begin_session(
            problem, losses=losses, store=inputs.store, observations=inputs.observations, began=began
        )
        environment = describe_environment(seed=config.seed, device=config.device)
        if earlier is not None:
            _require_same_network(earlier, problem)
        run = earlier or RunFolder.create(path, asked | _resolved(problem), environment, resume=resume)
        session.enter(run)
        save_source(run, config, problem.priced.trace, problem.task.example())
        if earlier is not None:
            run.reopen_results(episodes=config.episodes)
        run_episodes(session, time_limit_s=limit_s, watcher=watcher)
        return _finish(session, run, prior_images=losses.forward_images if losses else 0, watcher=watcher)


def _require_same_network(run: RunFolder, problem: Problem) -> None:
    """Raise UserError where a run was started with other weights or inputs under the same names."""
    before = ((run.read_json(CONFIG) or {}).get(RESOLVED) or {}).get("network")
    if before is not None and before != _network_hash(problem):
        raise UserError(
            f"the network, or its first input, is another than {run.path} was started with; choose another --out"
        )


def _network_hash(problem: Problem) -> str:
    """A hash of the network's parameters and buffers, and of the input that it was traced with."""
    digest = blake2b(digest_size=16)
    hash_network(digest, problem.priced.model)
    hash_tensor(digest, problem.task.example())
    return digest.hexdigest()


def _continues(run: RunFolder, config: SearchConfig, limit_s: float) -> bool:
    """Whether a run is to go on: it is not finished, is to have more episodes, or has time left that ended it.

    Raises UserError if it has more episodes than it is to have.
    """
    done = len(run.episodes())
    if config.episodes < done:
        raise UserError(f"{run.path} has {done} episodes already; --episodes {config.episodes} would be fewer")
    if not run.is_finished or config.episodes != (run.read_json(CONFIG) or {}).get("episodes"):
        return True
    summary = finished(run).summary
    if done < summary["episodes"]:  # killed as it began to go on
        return True
    return bool(summary.get("ended_by") == "time" and summary["seconds"] < limit_s)


def begin_session(
    problem: Problem,
    *,
    losses: LayerLosses | None = None,
    store: Store | None = None,
    observations: Observations = (),
    began: float | None = None,
) -> Session:
    """A session that knows beforehand what `losses` and other searches say."""
    known = None if losses is None else prior(losses.losses, problem.choice.decision_of_layer)
    session = Session(problem, prior=known, store=store, observations=observations, began=began)
    if losses is not None:
        session.warnings += losses.warnings
    return session


def finished(run: RunFolder) -> SearchResult:
    """What a finished run came to. Raises UserError if its files are not whole."""
    summary = run.read_json(SUMMARY)
    if summary is None or not holds(Summary, summary):
        raise UserError(f"{run.path} holds no finished run: {SUMMARY} is missing or damaged")
    return SearchResult(load_policy(run.path / POLICY), summary, run.path)


def run_episodes(session: Session, *, time_limit_s: float = inf, watcher: Watcher = SILENT) -> None:
    """Episodes until there are enough or the search has taken as long as it may, then a checkpoint.

    None is taken of an interrupted episode, which has used up random numbers: the journal and the checkpoint before it
    lead to the same result as no interruption.
    """
    for warning in session.warnings:
        watcher.warn(warning)
    for fact in opening_lines(session):
        watcher.line(fact)
    watcher.begin("episode", session.problem.config.episodes, done=session.episode)
    try:
        while not session.ended_by and (session.episode == 0 or session.seconds < time_limit_s):
            session.run_episode()
            watcher.step(session.episode, best_so_far(session))
    finally:
        watcher.end()
    session.checkpoint()


def _finish(session: Session, run: RunFolder, *, prior_images: int, watcher: Watcher) -> SearchResult:
    """Name the winner, measure it on the report split, and write the last files; the summary comes last."""
    problem, config = session.problem, session.problem.config
    if session.best is None:
        tried = f"{session.episode} episode{'s' if session.episode > 1 else ''}"
        missed = "no policy met the budget" if config.max_accuracy_drop is None else nothing_shown(config)
        raise UserError(f"{missed} in {tried}; the nearest miss is in {run.path}")
    watcher.phase("selection")
    selection = session.select()
    require_reached(config, selection, search_images=problem.task.size("search"))
    watcher.phase("report")
    policy = session.policy(selection.winner)
    if config.max_accuracy_drop is not None:
        problem = at_ratio(problem, cost_ratio(problem, policy.cost))  # the budget that would have been the one to ask
    report = Evaluator(
        problem.network.engine, problem.task, "report", batch_size=config.eval_batch, store=session.store
    )
    summary = summarize(problem, policy, selection, report) | _spent(session, selection, prior_images)
    if session.nothing_to_choose:
        summary["notes"].append(session.nothing_to_choose)
    if config.max_accuracy_drop is not None:
        summary["max_accuracy_drop"] = summarize_drop(problem, selection, summary)
    accuracy = {"report": summary["accuracy"], "fp32_report": summary["accuracy_fp32"]}
    if selection.accuracy is not None and selection.accuracy_fp32 is not None:
        accuracy |= {"selection": selection.accuracy, "fp32_selection": selection.accuracy_fp32}
    budget = tuple(PolicyBudget.model_validate(each) for each in summary["budget"])
    quantized = quantized_policy(problem.network, policy.with_accuracy(**accuracy).in_version_2(budget=budget))
    session.checkpoint()  # its seconds, from which a continued run counts on, cover the end as well
    summary["seconds"] = round(session.seconds, 3)
    save_result(run, quantized, summary)
    return SearchResult(quantized.policy, summary, run.path)


def _spent(session: Session, selection: Selection, prior_images: int) -> dict[str, Any]:
    """Why the search ended and what it took, prior and choice of the winner included and the report not."""
    before = session.problem.network.calibration_images + prior_images
    return {
        "episodes": session.episode,
        "ended_by": session.ended_by or "time",
        "evaluations": session.evaluator.evaluations + selection.evaluations,
        "forward_images": session.forward_images + selection.forward_images + before,
        "warnings": list(session.warnings),
    }


def _observations_key(observations: Observations) -> dict[str, Any]:
    """What `config.json` says of policies that a search begins with: what comes of it depends on them."""
    if not observations:
        return {}
    digest = blake2b(repr([(bits.tolist(), score) for bits, score in observations]).encode(), digest_size=8)
    return {"told": f"{len(observations)} policies, {digest.hexdigest()}"}


def _resolved(problem: Problem) -> dict[str, Any]:
    """What the settings came to for this network and these data."""
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
