"""The search as a function: from a network and a budget to a policy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from torch import Tensor, nn

from haq.config import SearchConfig, search_config
from haq.environment import describe_environment
from haq.errors import UserError, warn_caller
from haq.evaluation.evaluator import Evaluator
from haq.evaluation.fingerprint import hash_network, hash_tensor
from haq.evaluation.protocols import Store
from haq.finetuning.asked import names_of
from haq.finetuning.engine import EpisodeEngine
from haq.finetuning.saved import save_network
from haq.policy import Policy, load_policy
from haq.problem import Network, Problem, prepare
from haq.progress import Progress, no_progress
from haq.records import holds
from haq.run_dir import CONFIG, POLICY, QUANTIZERS, RESOLVED, SUMMARY, RunDir
from haq.run_settings import keep_source
from haq.searching.dual import at_ratio
from haq.searching.proposing import uses_prior
from haq.searching.records import Summary
from haq.searching.required_confidence import nothing_shown, require_images, require_reached
from haq.searching.selection import Selection
from haq.searching.session import Session, Watcher
from haq.searching.summary import cost_ratio, summarize, summarize_drop
from haq.searching.warm_start import Told
from haq.sensitivities.beforehand import known_beforehand
from haq.sensitivities.layer_losses import LayerLosses, prior
from haq.tasks import TaskLike, as_task
from haq.tasks.base import Task
from haq.user_code import caller_kept


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search came to: the best policy within the budget, its summary, and its folder if it was given one."""

    policy: Policy
    summary: Mapping[str, Any]
    path: Path | None


@dataclass(frozen=True, slots=True)
class Given:
    """What exists already, in place of what a configuration names; `network` is ready, with its task."""

    model: nn.Module | None = None
    task: Task | None = None
    network: Network | None = None
    store: Store | None = None
    """Evaluations of other searches."""
    losses: LayerLosses | None = None
    """What every change alone loses."""
    told: Told = ()
    """Policies of other searches, to begin with."""

    @classmethod
    def of(cls, model: nn.Module | str | None, task: Task | str | None) -> "Given":
        """What is given as an object and not by its name."""
        return cls(model if isinstance(model, nn.Module) else None, None if isinstance(task, str) else task)


def search(
    model: nn.Module | str = "digits_cnn",
    task: TaskLike = "digits",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    time_limit_s: float | None = None,
    watcher: Watcher | None = None,
    **settings: Any,
) -> SearchResult:
    """Find the bits of every layer, within a budget, that lose the least accuracy (HAQ, Wang et al., CVPR 2019).

    `model` and `task` are objects, or names as on the command line; `task` may be a mapping of data sets of (input,
    label), or of loaders of batches of them, with the names `calibration`, `search`, `report` and, if there are more,
    `selection` and `train`. `settings` are the fields of
    `haq.config.SearchConfig`: hardware, objective, budget (a ratio of the 8-bit cost, a text such as "12ms", or a
    mapping such as {"latency": 0.6, "size": "250kB"}), episodes, seed and others. With `max_accuracy_drop`, in points
    of accuracy such as 0.5, in place of a budget the least cost is looked for.
    `out` keeps the run in a folder; `resume` continues one that was interrupted, that a time limit ended, or that is
    to have more `episodes` than it had. When a search has taken `time_limit_s`, its preparation and earlier sessions
    included, it ends with the best policy so far. The network is not changed.

    Raises UserError, UnsupportedError or BudgetError for what cannot be done, before the first episode.
    """
    task = as_task(task)
    config = search_config(**names_of(model, task), **settings)
    given = Given.of(model, task)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "run" if out is None else Path(out)
        result = search_configured(
            config, path, given=given, resume=resume and out is not None, time_limit_s=time_limit_s, watcher=watcher
        )
    warn_caller(result.summary["warnings"])
    return result if out is not None else replace(result, path=None)


def search_configured(
    config: SearchConfig,
    path: Path,
    *,
    given: Given = Given(),
    resume: bool = False,
    time_limit_s: float | None = None,
    watcher: Watcher | None = None,
) -> SearchResult:
    """The search that a configuration describes, kept in a folder; see `search`."""
    began, limit_s = monotonic(), inf if time_limit_s is None else time_limit_s
    asked = config.model_dump(mode="json") | _told(given.told)
    with (
        RunDir.opened(path, asked, resume=resume, may_differ="episodes") as earlier,
        caller_kept(given.model),
    ):
        if earlier is not None and not _continues(earlier, config, limit_s):
            return finished(earlier)
        RunDir.require_writable(path)
        progress = watcher.phase if watcher else no_progress
        problem = prepare(
            config,
            model=given.model,
            task=given.task,
            network=given.network,
            require=partial(require_images, config),
            progress=progress,
        )
        losses = None
        if uses_prior(config):
            progress("sensitivities")
            losses = given.losses or known_beforehand(problem.network, config.prior)
        progress("float accuracy")
        session = begin_session(problem, losses=losses, store=given.store, told=given.told, began=began)
        environment = describe_environment(seed=config.seed, device=config.device)
        if earlier is not None:
            _require_same_network(earlier, problem)
        run = earlier or RunDir.create(path, asked | _resolved(problem), environment, resume=resume)
        session.enter(run)
        keep_source(run, config, problem.priced.trace, problem.task.example())
        if earlier is not None:
            run.reopen_results(episodes=config.episodes)
        run_episodes(session, time_limit_s=limit_s, watcher=watcher)
        return _finish(session, run, prior_images=losses.forward_images if losses else 0, progress=progress)


def _require_same_network(run: RunDir, problem: Problem) -> None:
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


def _continues(run: RunDir, config: SearchConfig, limit_s: float) -> bool:
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
    told: Told = (),
    began: float | None = None,
) -> Session:
    """A session that knows beforehand what `losses` and other searches say."""
    known = None if losses is None else prior(losses.losses, problem.choice.decision_of_layer)
    session = Session(problem, prior=known, store=store, told=told, began=began)
    if losses is not None:
        session.warnings += losses.warnings
    return session


def finished(run: RunDir) -> SearchResult:
    """What a finished run came to. Raises UserError if its files are not whole."""
    summary = run.read_json(SUMMARY)
    if summary is None or not holds(Summary, summary):
        raise UserError(f"{run.path} holds no finished run: {SUMMARY} is missing or damaged")
    return SearchResult(load_policy(run.path / POLICY), summary, run.path)


def run_episodes(session: Session, *, time_limit_s: float = inf, watcher: Watcher | None = None) -> None:
    """Episodes until there are enough or the search has taken as long as it may, then a checkpoint.

    None is taken of an interrupted episode, which has used up random numbers: the journal and the checkpoint before it
    lead to the same result as no interruption.
    """
    watchers = [watcher] if watcher else []
    for each in watchers:
        each.begin(session)
    try:
        while not session.ended_by and (session.episode == 0 or session.seconds < time_limit_s):
            line = session.run_episode()
            for each in watchers:
                each.episode(session, line)
    finally:
        for each in watchers:
            each.end()
    session.checkpoint()


def _finish(session: Session, run: RunDir, *, prior_images: int, progress: Progress) -> SearchResult:
    """Name the winner, measure it on the report split, and write the last files; the summary comes last."""
    from haq.plots import plot_run  # matplotlib takes longer to import than all the rest

    problem, config = session.problem, session.problem.config
    if session.best is None:
        tried = f"{session.episode} episode{'s' if session.episode > 1 else ''}"
        missed = "no policy met the budget" if config.max_accuracy_drop is None else nothing_shown(config)
        raise UserError(f"{missed} in {tried}; the nearest miss is in {run.path}")
    progress("selection")
    selection = session.select()
    require_reached(config, selection, search_images=problem.task.size("search"))
    progress("report")
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
    policy = policy.with_accuracy(**accuracy)
    run.write(POLICY, policy.to_json().encode())
    save_quantized(run, problem.network, policy)
    plot_run(run.path, summary=summary)
    session.checkpoint()  # its seconds, from which a continued run counts on, cover the end as well
    summary["seconds"] = round(session.seconds, 3)
    run.write_json(SUMMARY, summary)
    return SearchResult(policy, summary, run.path)


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


def save_quantized(run: RunDir, network: Network, policy: Policy) -> None:
    """Write everything that evaluating the policy needs: its quantizers, and the network where it was trained."""
    if isinstance(network.engine, EpisodeEngine):
        save_network(run, network.engine.network((policy.w_bits, policy.a_bits)))
    else:
        run.save_tensors(QUANTIZERS, quantizer_tensors(network, policy))


def quantizer_tensors(network: Network, policy: Policy) -> dict[str, Tensor]:
    """Everything that evaluating or exporting a policy needs besides the weights: quantizers and corrections."""
    corrections = network.engine.corrections((policy.w_bits, policy.a_bits))
    names = tuple(layer.name for layer in policy.layers)
    return network.quantizers.tensors(policy.w_bits, policy.a_bits) | corrections.tensors(names)


def _told(told: Told) -> dict[str, Any]:
    """What `config.json` says of policies that a search begins with: what comes of it depends on them."""
    if not told:
        return {}
    digest = blake2b(repr([(bits.tolist(), score) for bits, score in told]).encode(), digest_size=8)
    return {"told": f"{len(told)} policies, {digest.hexdigest()}"}


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
