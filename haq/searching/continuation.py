"""Continuation of a search in its folder: when there is one, and what must be the same as in the search before."""

from hashlib import blake2b
from typing import Any

from haq.config import SearchConfig
from haq.errors import UserError
from haq.evaluation.fingerprint import hash_network, hash_tensors
from haq.experiment.inputs import Observations
from haq.experiment.problem import Problem
from haq.runs.run_folder import CONFIG, RESOLVED, RunFolder
from haq.searching.summary import read_summary


def recorded_settings(config: SearchConfig, observations: Observations) -> dict[str, Any]:
    """Return the settings that a search must have been started with to be continued, as in its `config.json`.

    Args:
        config: Settings of the search.
        observations: Policies that are tried first, on which the result depends.

    Returns:
        Values that JSON has, by name.
    """
    settings = config.model_dump(mode="json")
    if not observations:
        return settings
    digest = blake2b(repr([(bits.tolist(), score) for bits, score in observations]).encode(), digest_size=8)
    return settings | {"told": f"{len(observations)} policies, {digest.hexdigest()}"}


def resolved_values(problem: Problem) -> dict[str, Any]:
    """Return the entry of `config.json` with the values that the settings have for a network and its data.

    Args:
        problem: The prepared problem.

    Returns:
        The entry.
    """
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


def is_to_continue(run: RunFolder, config: SearchConfig, *, limit_s: float) -> bool:
    """Return whether a search goes on: unfinished, with more episodes to come, or ended by a lower time limit.

    Args:
        run: Folder of the search.
        config: Settings of now.
        limit_s: Time limit of now, seconds.

    Returns:
        True if it goes on.

    Raises:
        UserError: It has more episodes than it is to have, or its summary is damaged.
    """
    done = run.episodes.count()
    if config.episodes < done:
        raise UserError(f"{run.path} has {done} episodes already; --episodes {config.episodes} would be fewer")
    if not run.is_finished or config.episodes != (run.read_json(CONFIG) or {}).get("episodes"):
        return True
    summary = read_summary(run)
    if done < summary.episodes:  # interrupted as it began to continue
        return True
    return summary.ended_by == "time" and summary.seconds < limit_s


def require_same_network(run: RunFolder, problem: Problem) -> None:
    """Check that a search was started with the same weights and inputs, under the same names.

    Args:
        run: Folder of the search.
        problem: The problem of now.

    Raises:
        UserError: They are others.
    """
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
