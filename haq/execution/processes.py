"""Executor that runs jobs in several processes on this machine."""

import os
import signal
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for_futures
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_handles
from threading import Thread

import torch

from haq.execution.executors import J


@dataclass(frozen=True, slots=True)
class Processes:
    """Executor with worker processes of one thread each.

    Workers share no memory with the calling process. They end with it, however it ends.

    Attributes:
        workers: Number of worker processes, at least 1.
    """

    workers: int

    def run(self, jobs: Iterable[J]) -> Iterator[J]:
        """Run as many jobs at a time as there are workers; see `Executor.run`."""
        pending = deque(jobs)
        if not pending:
            return
        running: dict[Future[None], J] = {}
        with worker_pool(min(self.workers, len(pending))) as pool:
            while pending or running:
                # A job that the pool has queued can no longer be cancelled, so none is submitted ahead of time.
                while pending and len(running) < self.workers:
                    job = pending.popleft()
                    running[pool.submit(job.run)] = job
                finished, _ = wait_for_futures(running, return_when=FIRST_COMPLETED)
                for future in finished:
                    job = running.pop(future)
                    future.result()
                    yield job


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Start a pool of processes of one thread each that end with this process.

    At the end of the context running calls are waited for. If it ends with an exception that is no `Exception`
    (`KeyboardInterrupt`, `GeneratorExit`), the workers are stopped instead.

    Args:
        workers: Number of processes.

    Yields:
        The pool.
    """
    context = get_context("spawn")
    stopped, stop = context.Pipe(duplex=False)
    try:
        with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(stopped,)) as pool:
            try:
                yield pool
            except Exception:
                raise
            except BaseException:
                stop.close()
                raise
    finally:
        stop.close()
        stopped.close()


def _begin(stopped: Connection) -> None:
    """Set up a worker: one thread, and no reaction to Ctrl-C, which the calling process handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, args=(stopped,), daemon=True).start()


def _end_with_parent(stopped: Connection) -> None:
    """End this worker when the calling process closes its end of the pipe, or dies."""
    parent = parent_process()
    assert parent is not None
    wait_for_handles([parent.sentinel, stopped])
    os._exit(1)
