"""The search workflow: from a network and a budget to a policy in a run folder."""

from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from time import monotonic

from haq.config import SearchConfig
from haq.evaluation.protocols import Store
from haq.execution.pools import Workers
from haq.execution.progress import SILENT, Watcher
from haq.execution.user_code import caller_kept
from haq.experiment.artifact import Artifact
from haq.experiment.inputs import Inputs, Observations
from haq.experiment.methods import uses_prior
from haq.experiment.preparation import prepare
from haq.experiment.prior.compute import compute_prior
from haq.experiment.prior.layer_losses import LayerLosses, prior_of_pairs
from haq.experiment.problem import Problem
from haq.experiment.result_tables import result_html, search_table
from haq.experiment.results import save_source
from haq.policy import Policy, load_policy
from haq.runs.environment import describe_environment
from haq.runs.run_folder import POLICY, RunFolder
from haq.runs.summary import Summary
from haq.searching.accuracy_drop import require_images
from haq.searching.continuation import is_to_continue, recorded_settings, require_same_network, resolved_values
from haq.searching.episodes import run_episodes
from haq.searching.finish import finish
from haq.searching.session import Session
from haq.searching.summary import read_summary

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
    settings = recorded_settings(config, inputs.observations)
    with (
        RunFolder.opened(path, settings, resume=resume, may_differ="episodes") as earlier,
        caller_kept(inputs.model),
    ):
        if earlier is not None and not is_to_continue(earlier, config, limit_s=limit_s):
            return finished(earlier)
        RunFolder.require_writable(path)
        session, losses = _prepared_session(config, inputs, watcher, began=began)
        problem = session.problem
        environment = describe_environment(seed=config.seed, device=config.device)
        if earlier is not None:
            require_same_network(earlier, problem)
        run = earlier or RunFolder.create(path, settings | resolved_values(problem), environment, resume=resume)
        session.enter(run)
        save_source(run, config, problem.priced.trace, problem.task.example())
        if earlier is not None:
            run.reopen_results(episodes=config.episodes)
        run_episodes(session, time_limit_s=limit_s, workers=workers, watcher=watcher)
        policy, summary = finish(session, run, losses=losses, watcher=watcher)
        return SearchResult(policy, summary, run.path)


def _prepared_session(
    config: SearchConfig, inputs: Inputs, watcher: Watcher, *, began: float
) -> tuple[Session, LayerLosses | None]:
    """Prepare the problem and its prior; return the session without episodes, and the losses of the prior."""
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
    session = begin_session(problem, losses=losses, store=inputs.store, observations=inputs.observations, began=began)
    return session, losses


def _layer_losses(problem: Problem, inputs: Inputs, watcher: Watcher) -> LayerLosses | None:
    """Return the losses that the caller has, or compute those of the prior; None without a prior."""
    if not uses_prior(problem.config):
        return None
    watcher.phase("sensitivities")
    return inputs.losses or compute_prior(problem.network, problem.config.prior)


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
    summary = read_summary(run)
    return SearchResult(load_policy(run.path / POLICY), summary, run.path)
