"""Run of the episodes of a search, in this process or with workers."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from math import inf

from haq.execution.pools import Workers
from haq.execution.progress import SILENT, Watcher
from haq.execution.termination import termination_deferred
from haq.experiment.preparation import quantize_weights
from haq.searching.failures import require_success
from haq.searching.progress import best_so_far, opening_lines
from haq.searching.session import Session


def run_episodes(
    session: Session, *, time_limit_s: float = inf, workers: Workers | None = None, watcher: Watcher = SILENT
) -> None:
    """Run episodes until their number or the time limit is reached, then write a checkpoint.

    SIGTERM ends a command after the current episode, with a checkpoint; Ctrl-C ends it at once. No checkpoint is
    written in an interrupted episode, which has used random numbers: resuming from the journal and the checkpoint
    before it gives the same result as no interruption.

    Args:
        session: The search.
        time_limit_s: Time of the search in seconds after which no further episode starts. At least one is run, and
            those that the journal of an interrupted run has.
        workers: Workers that evaluate policies; None to evaluate them in this process.
        watcher: Receives episodes and warnings.

    Raises:
        KeyboardInterrupt: A signal ended the command.
        UserError: Several policies in a row could not be evaluated.
    """
    for warning in session.warnings:
        watcher.warn(warning)
    for fact in opening_lines(session):
        watcher.line(fact)
    watcher.begin("episode", session.problem.config.episodes, done=session.episode_count)
    with (
        termination_deferred() as terminated,
        nullcontext() if workers is None else _distributed(session, workers),
    ):
        try:
            while not session.ended_by and (session.must_continue or session.seconds < time_limit_s):
                episode = session.run_episode()
                if episode.failure is not None:
                    watcher.warn(f"the policy of episode {episode.episode} could not be evaluated: {episode.failure}")
                watcher.measured(session.episode_count, episode.values)
                watcher.step(session.episode_count, best_so_far(session))
                if terminated():
                    break
                require_success(session.latest)
        finally:
            watcher.end()
        session.checkpoint()


@contextmanager
def _distributed(session: Session, workers: Workers) -> Iterator[None]:
    """Start workers that evaluate the policies of a search, and send them its network and data."""
    quantize_weights(session.problem)
    with workers.pool() as pool, session.evaluator.distributed(pool):
        yield
